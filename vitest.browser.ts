import { configOf } from "./vitest.workspace.ts"

/** What is seen in a real browser; `scripts/browser.mjs` finds one. */
export default configOf({ include: ["test/**/*.browser.ts"], exclude: [] })
