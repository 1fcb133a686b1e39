/** Attacks from inside sandboxes, and each one again with the protection from it switched off. */
import { configOf } from "./vitest.workspace.ts"

export default configOf({ include: ["test/**/*.isolation.test.ts"], exclude: [] })
