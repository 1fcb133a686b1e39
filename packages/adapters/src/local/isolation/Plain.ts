/** Plain processes in a directory, for who knowingly asks for them: nothing keeps them from what this user may do. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { attempt, parseStat } from "../process/Host.ts"
import type { Isolation } from "./Isolation.ts"
import type { Layout, SandboxLayout } from "../sandbox/Layout.ts"
import type { Spec } from "../sandbox/Machines.ts"
import { killMarked } from "./scripts.ts"
import { start } from "../process/Spawn.ts"
import { run } from "../process/Spawner.ts"

/** Seconds; longer than any sandbox lives. One process, so that none is left when it is ended. */
const forEver = "2147483647"

/** Its files are a directory of their own, copied from the newest layer; an image has but one. */
export const make = (layout: Layout): Isolation => ({
  kind: "none",
  protections: [],
  userOf: () => false,
  newUser: () => ({}),
  prepare: Effect.fnUntraced(function* (sandbox: SandboxLayout, { chain }: Pick<Spec, "chain">) {
    yield* attempt("create", () => mkdir(sandbox.commands, { recursive: true }))
    if (existsSync(sandbox.upper)) return
    const [layer] = chain
    if (layer === undefined) return yield* Effect.asVoid(attempt("create", () => mkdir(sandbox.upper)))
    const copy = ["cp", "-a", "--", layout.layer(layer), sandbox.upper]
    const { code, stderr } = yield* run("create", copy, { cwd: layout.root, user: false })
    if (code !== 0) return yield* new SandboxUnavailable({ operation: "create", retryable: false, cause: stderr })
  }),
  // A process that only stands for the sandbox: while it lives, the sandbox runs.
  boot: Effect.fnUntraced(function* (sandbox: SandboxLayout) {
    const child = start({ command: ["sleep", forEver], cwd: sandbox.upper, user: false }, [
      "ignore",
      "ignore",
      "ignore"
    ])
    child.unref()
    const line = `${readFileSync(`/proc/${child.pid}/stat`, "utf8")}`
    yield* attempt("boot", () => writeFile(join(sandbox.root, "init"), line))
    return parseStat(line)!
  }),
  enter: () => [],
  sharesNetwork: true,
  enterNetwork: () => [],
  // With the pinned Node, since npm does not run with every one a host may have.
  npmPath: (placed) => `${placed}/bin:${layout.runtime}`,
  sweep: (name) =>
    Effect.asVoid(
      run("stop", ["sh", "-c", killMarked, "kill", `CASTELLAN_SANDBOX=${name}`], { cwd: "/", user: false })
    ),
  home: (sandbox) => sandbox.upper,
  processes: () => 0
})
