/** The test that pastes the commands of the README and of the examples. It needs the package registry. */
import { configOf } from "./vitest.workspace.ts"

export default configOf({ include: ["test/**/*.readme.ts"], exclude: [] })
