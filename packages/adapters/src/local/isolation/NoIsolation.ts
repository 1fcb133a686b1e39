/** Sandboxes without isolation: plain processes in a directory, which may do whatever the server's user may do. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { mkdir, writeFile } from "node:fs/promises"
import { attempt, attemptSync } from "../process/attempt.ts"
import { parseStat } from "../process/processes.ts"
import { spawnProgram } from "../process/Spawn.ts"
import { run } from "../process/Spawner.ts"
import type { Layout, SandboxLayout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"
import type { Isolation } from "./Isolation.ts"

/** Seconds; longer than any sandbox lives. */
const forever = "2147483647"

/** Kills every process of the host whose environment has the entry `$1`, until none is left. */
const killMarked = `
for round in 1 2 3 4 5 6 7 8 9 10; do
  pids=$(grep -lzxF -- "$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3)
  [ -n "$pids" ] || exit 0
  kill -9 $pids 2>/dev/null
done
exit 1
`

/** Copies the newest layer into a new sandbox; without isolation a snapshot has exactly one layer. */
const prepare = Effect.fnUntraced(function* (
  layout: Layout,
  sandbox: SandboxLayout,
  { chain }: Pick<SandboxRecord, "chain">
) {
  yield* attempt("create", () => mkdir(sandbox.commands, { recursive: true }))
  if (existsSync(sandbox.upper)) return
  const [layer] = chain
  if (layer === undefined) return yield* Effect.asVoid(attempt("create", () => mkdir(sandbox.upper)))
  const copy = ["cp", "-a", "--", layout.layer(layer), sandbox.upper]
  const { code, stderr } = yield* run("create", copy, { cwd: layout.root, user: false })
  if (code !== 0) return yield* new SandboxUnavailable({ operation: "create", retryable: false, cause: stderr })
})

/** Starts a process that represents the sandbox: the sandbox runs while it lives. */
const boot = Effect.fnUntraced(function* (sandbox: SandboxLayout) {
  const line = yield* attemptSync("boot", () => {
    const program = { command: ["sleep", forever], cwd: sandbox.upper, user: false } as const
    const child = spawnProgram(program, ["ignore", "ignore", "ignore"])
    child.unref()
    return readFileSync(`/proc/${child.pid}/stat`, "utf8")
  })
  yield* attempt("boot", () => writeFile(sandbox.init, line))
  return parseStat(line)!
})

export const make = (layout: Layout): Isolation => ({
  kind: "none",
  protections: [],
  userOf: () => false,
  allocateUser: () => ({}),
  prepare: (sandbox, record) => prepare(layout, sandbox, record),
  boot,
  enterCommand: () => [],
  sharesNetwork: true,
  enterNetworkCommand: () => [],
  // The runtime directory has the pinned Node, since npm does not run with every Node that a host may have.
  npmSearchPath: (installed) => `${installed}/bin:${layout.runtime}`,
  killRemaining: (name) =>
    Effect.asVoid(
      run("stop", ["sh", "-c", killMarked, "kill", `CASTELLAN_SANDBOX=${name}`], { cwd: "/", user: false })
    ),
  homeDirectory: (sandbox) => sandbox.upper,
  countProcesses: () => 0
})
