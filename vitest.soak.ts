/** The tests that take long: real processes, killed at random, and the faults of a network. */
import { configOf } from "./vitest.workspace.ts"

export default configOf({ include: ["test/**/*.soak.test.ts"], exclude: [] })
