/** The tests that take a minute each: real processes, killed at random. */
import { configOf } from "./vitest.workspace.ts"

export default configOf({ include: ["test/**/*.soak.test.ts"], exclude: [] })
