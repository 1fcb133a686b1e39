/** Tests whether this host can isolate sandboxes, by starting one. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect } from "effect"
import { mkdir, rm, writeFile } from "node:fs/promises"
import { loadavg } from "node:os"
import { attempt } from "../process/attempt.ts"
import type * as Locks from "../process/Locks.ts"
import { killProcess, type ProcessIdentity } from "../process/processes.ts"
import { run } from "../process/Spawner.ts"
import { randomId } from "../storage/files.ts"
import type { Layout, SandboxLayout } from "../storage/Layout.ts"
import { BootTimedOut, type Isolation, LocalUnavailable } from "./Isolation.ts"

/** Namespaces do not work on this host. The only failure that recommends running without isolation. */
export const isolationUnsupported = (why: string) =>
  new LocalUnavailable({
    message: `Sandboxes can't be isolated on this host: ${why}. On Linux, allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); or set CASTELLAN_LOCAL_ISOLATION=none to run commands as plain processes, which can then read and change everything that this server's user can`
  })

const messageOf = ({ cause }: SandboxUnavailable) =>
  (cause instanceof Error ? cause.message : String(cause)).replace(/\s+/g, " ")

/** The data directory or the provider's programs can't be used. Namespaces are not the reason. */
export const directoryUnusable = (layout: Layout, failure: SandboxUnavailable) =>
  new LocalUnavailable({ message: `${layout.root} can't be used for sandboxes: ${messageOf(failure)}` })

/** Prints a word for each protection that is missing inside, and `over` at the end. */
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

/** The time limits of the attempts, each for starting the test sandbox and again for the self-test. */
export const attempts: ReadonlyArray<Duration.Duration> = [20, 60, 180].map(Duration.seconds)

/** Seconds after its time limit when a test sandbox ends by itself, in case its server was killed. */
const spareSeconds = 60

/** Messages about a lack of memory, processes or time. They don't mean that the host lacks namespaces. */
const transientMessage = /Resource temporarily unavailable|Cannot allocate memory|Too many open files|exit 137/

const isTransientFailure = (failure: SandboxUnavailable) =>
  failure.retryable || failure.cause instanceof BootTimedOut || transientMessage.test(messageOf(failure))

const probeTimedOut = (within: Duration.Duration) => {
  const cause = new BootTimedOut(`the test sandbox did not answer within ${2 * Duration.toSeconds(within)} seconds`)
  return new SandboxUnavailable({ operation: "probe", retryable: false, cause })
}

/**
 * Starts a sandbox outside the provider's bookkeeping, for `use`, and kills it after that. It ends by itself after `lifetime`
 * in case this process is killed.
 */
export const withBareSandbox = Effect.fnUntraced(function* <A, E, R>(
  isolation: Isolation,
  files: SandboxLayout,
  record: Parameters<Isolation["boot"]>[1],
  { lifetime, within }: { readonly lifetime: Duration.Duration; readonly within?: Duration.Duration },
  use: (init: ProcessIdentity) => Effect.Effect<A, E, R>
) {
  const token = randomId()
  yield* attempt("probe", async () => {
    await mkdir(files.root, { recursive: true, mode: 0o711 })
    await rm(files.init, { force: true })
    await writeFile(files.start, `${token}\n`)
    await writeFile(files.deadline, `${Math.ceil(Date.now() / 1000 + Duration.toSeconds(lifetime))}\n`)
  })
  yield* isolation.prepare(files, record)
  const init = yield* isolation.boot(files, record, token, within)
  return yield* Effect.ensuring(
    use(init),
    Effect.sync(() => killProcess(init))
  )
})

/** Runs the self-test in a new sandbox and returns what it found missing. */
const missingProtections = Effect.fnUntraced(function* (
  layout: Layout,
  isolation: Isolation,
  locks: Locks.Locks,
  within: Duration.Duration
) {
  const name = SandboxName.make(`probe-${randomId()}`)
  const files = layout.sandbox(name)
  const lifetime = Duration.sum(within, Duration.seconds(spareSeconds))
  const test = (init: ProcessIdentity) => {
    const command = [...isolation.enterCommand(files, init), "sh", "-c", selfTest]
    return run("probe", command, { cwd: "/", user: isolation.userOf({}) })
  }
  return yield* Effect.gen(function* () {
    const record = { name, chain: [], status: "pending" } as const
    const { code, stderr, stdout } = yield* withBareSandbox(isolation, files, record, { lifetime, within }, test)
    const words = stdout.trim().split("\n")
    if (words.includes("over")) return words.filter((word) => word !== "over")
    const cause = new Error(`a program in the test sandbox did not run (exit ${code}): ${stderr.trim()}`)
    return yield* new SandboxUnavailable({ operation: "boot", retryable: false, cause })
  }).pipe(
    Effect.timeoutOrElse({ duration: Duration.times(within, 2), orElse: () => Effect.fail(probeTimedOut(within)) }),
    Effect.ensuring(Effect.ignore(attempt("probe", () => rm(files.root, { recursive: true, force: true })))),
    // Without the lock, another process that opens the directory would remove the sandbox as a leftover.
    locks.sandbox(name)
  )
})

/**
 * Fails with `isolationUnsupported` only if the host refused the sandbox or the sandbox is not isolated. An attempt that
 * fails for another reason, most often slowness, is repeated with more time.
 */
export const probe = Effect.fnUntraced(function* (layout: Layout, isolation: Isolation, locks: Locks.Locks) {
  for (const [index, within] of attempts.entries()) {
    const isLast = index === attempts.length - 1
    const found = yield* Effect.result(missingProtections(layout, isolation, locks, within))
    if (found._tag === "Success") {
      const missing = found.success
      if (missing.length === 0) return
      return yield* isolationUnsupported(`the isolation does not hold (${missing.join(", ")})`)
    }
    const { failure } = found
    if (!isTransientFailure(failure)) {
      return yield* failure.operation === "boot"
        ? isolationUnsupported(messageOf(failure))
        : directoryUnusable(layout, failure)
    }
    const load = loadavg()[0]!.toFixed(1)
    if (isLast) {
      return yield* new LocalUnavailable({
        message: `This host is too busy to start a sandbox: the test sandbox did not start in ${attempts.length} attempts, the last of ${Duration.toSeconds(within)} seconds (${messageOf(failure)}; load average ${load}). Start the server again when the host is less busy; the isolation setting need not change`
      })
    }
    yield* Effect.logWarning("Test sandbox is slow to start; retrying with more time", {
      waitedMs: Duration.toMillis(within),
      nextWaitMs: Duration.toMillis(attempts[index + 1]!),
      loadAverage: Number(load),
      reason: messageOf(failure)
    })
  }
})
