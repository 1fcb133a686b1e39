import { contracts } from "./contracts.ts"
import * as databases from "./databases.ts"

contracts("PGlite", databases.pglite)
