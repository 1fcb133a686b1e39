import { contracts } from "./contracts.ts"
import * as later from "./later.ts"

contracts("Postgres of a later version", later.postgres)
