/** Finds out by doing it whether sandboxes can be isolated on this host. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect } from "effect"
import { mkdir, rm, writeFile } from "node:fs/promises"
import { loadavg } from "node:os"
import { attempt, killProcess } from "../process/Host.ts"
import { BootTimedOut, type Isolation, LocalUnavailable } from "./Isolation.ts"
import { fresh, type Layout } from "../sandbox/Layout.ts"
import type * as Locks from "../process/Locks.ts"
import { run } from "../process/Spawner.ts"

/** Namespaces do not work on this host; the only failure for which running without them is an answer. */
export const forbidden = (why: string) =>
  new LocalUnavailable({
    message: `Sandboxes can't be isolated on this host: ${why}. On Linux, allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); or set CASTELLAN_LOCAL_ISOLATION=none to run commands as plain processes, knowing that they can then read and change what this server's user can.`
  })

/** What a failure of the provider says. */
const whyOf = ({ cause }: SandboxUnavailable) =>
  (cause instanceof Error ? cause.message : String(cause)).replace(/\s+/g, " ")

/** The provider's directory or its programs can't be used, which has nothing to do with namespaces. */
export const unusable = (layout: Layout, failure: SandboxUnavailable) =>
  new LocalUnavailable({ message: `${layout.root} can't be used for sandboxes: ${whyOf(failure)}` })

/** What must hold inside, each said by a word of its own. */
const selfTest = `
cat /etc/shadow >/dev/null 2>&1 && echo shadow
( echo x > /proc/sys/kernel/core_pattern ) 2>/dev/null && echo sysctl
grep -q '^CapEff:.0*$' /proc/self/status || echo capabilities
grep -q '^NoNewPrivs:.1$' /proc/self/status || echo privileges
( : > /usr/castellan-test ) 2>/dev/null && echo usr
unshare --user true 2>/dev/null && echo namespaces
touch /home/user/test || echo home
node -e 0 || echo node
git --version >/dev/null || echo git
echo over
`

/** How long the sandbox of each attempt may take to come up and to test itself. A busy host needs more than an idle one. */
export const attempts: ReadonlyArray<Duration.Duration> = [20, 60, 180].map(Duration.seconds)

/** Seconds that the sandbox of an attempt outlives it at most, if its server is killed. */
const spareSeconds = 60

/** What is said of a shortage, or of a program that was killed for one: none tells anything about namespaces. */
const passing = /Resource temporarily unavailable|Cannot allocate memory|Too many open files|exit 137/

const mayPass = (failure: SandboxUnavailable) =>
  failure.retryable || failure.cause instanceof BootTimedOut || passing.test(whyOf(failure))

const late = (within: Duration.Duration) => {
  const cause = new BootTimedOut(`the test sandbox did not answer within ${2 * Duration.toSeconds(within)} seconds`)
  return new SandboxUnavailable({ operation: "probe", retryable: false, cause })
}

/** Gives what does not hold in a sandbox that is brought up for it. */
const tried = Effect.fnUntraced(function* (
  layout: Layout,
  isolation: Isolation,
  locks: Locks.Locks,
  within: Duration.Duration
) {
  const name = SandboxName.make(`probe-${fresh()}`)
  const files = layout.sandbox(name)
  const start = fresh()
  return yield* Effect.gen(function* () {
    yield* attempt("probe", async () => {
      await mkdir(files.root, { mode: 0o711 })
      await writeFile(files.start, `${start}\n`)
      const overdue = Date.now() / 1000 + Duration.toSeconds(within) + spareSeconds
      await writeFile(files.deadline, `${Math.ceil(overdue)}\n`)
    })
    yield* isolation.prepare(files, { chain: [] })
    const init = yield* isolation.boot(files, { name, chain: [], status: "pending" }, start, within)
    const command = [...isolation.enter(files, init), "sh", "-c", selfTest]
    const { code, stderr, stdout } = yield* Effect.ensuring(
      run("probe", command, { cwd: "/", user: isolation.userOf({}) }),
      Effect.sync(() => killProcess(init))
    )
    const said = stdout.trim().split("\n")
    if (said.includes("over")) return said.filter((word) => word !== "over")
    const cause = new Error(`a program in the test sandbox did not run (exit ${code}): ${stderr.trim()}`)
    return yield* new SandboxUnavailable({ operation: "boot", retryable: false, cause })
  }).pipe(
    Effect.timeoutOrElse({ duration: Duration.times(within, 2), orElse: () => Effect.fail(late(within)) }),
    Effect.ensuring(Effect.ignore(attempt("probe", () => rm(files.root, { recursive: true, force: true })))),
    // Without the lock another process that opens the directory takes it for what is left of a sandbox.
    locks.sandbox(name)
  )
})

/**
 * Fails with `forbidden` only if the host refused a sandbox or the sandbox is not isolated. An attempt that fails for
 * another reason, above all slowness, is repeated with more time.
 */
export const probe = Effect.fnUntraced(function* (layout: Layout, isolation: Isolation, locks: Locks.Locks) {
  for (const [index, within] of attempts.entries()) {
    const isLast = index === attempts.length - 1
    const found = yield* Effect.result(tried(layout, isolation, locks, within))
    if (found._tag === "Success") {
      const wrong = found.success
      if (wrong.length > 0) return yield* forbidden(`the isolation does not hold (${wrong.join(", ")})`)
      return
    }
    const failure = found.failure
    if (!mayPass(failure)) {
      return yield* failure.operation === "boot" ? forbidden(whyOf(failure)) : unusable(layout, failure)
    }
    const load = loadavg()[0]!.toFixed(1)
    if (isLast) {
      return yield* new LocalUnavailable({
        message: `This host is too busy to start a sandbox: the test sandbox did not come up in ${attempts.length} attempts, the last of ${Duration.toSeconds(within)} seconds (${whyOf(failure)}; load average ${load}). Start again when it is less busy; isolation need not be changed`
      })
    }
    yield* Effect.logWarning("The test sandbox is slow to come up; trying again with more time", {
      waitedMs: Duration.toMillis(within),
      nextWaitMs: Duration.toMillis(attempts[index + 1]!),
      loadAverage: Number(load),
      reason: whyOf(failure)
    })
  }
})
