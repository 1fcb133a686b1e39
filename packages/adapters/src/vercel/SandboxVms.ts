/** Which machine stands for a sandbox: the one that runs it, or where it is stopped, one that is made of its files to read. */
import type { Sandbox as SandboxValue } from "@castellan/domain/sandbox/Sandbox.ts"
import { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxGone, SandboxNotRunning, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Sandbox as Vm, Session } from "@vercel/sandbox"
import { DateTime, Duration, Effect, Option, RcMap, Schedule, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import type { Api, CreateParams, ListedSandbox } from "./Api.ts"
import { type RequestFailed, unavailable } from "./RequestFailed.ts"

/** A machine whose files can be read. */
export interface ReadableVm {
  readonly name: SandboxName
  readonly session: Session
  /** The run of the sandbox that goes on; null where it is stopped. */
  readonly runs: string | null
  /** When what did not end was lost, at the latest. */
  readonly lostAt: number
  /** Gives a machine that was made to read up: the next who reads gets another. */
  readonly giveUp: Effect.Effect<void>
}

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

const statuses: Record<Session["status"], SandboxValue["status"]> = {
  pending: "pending",
  running: "running",
  stopping: "stopping",
  snapshotting: "stopping",
  stopped: "stopped",
  // Its files are still there, as they were when it stopped the last time.
  aborted: "stopped",
  failed: "stopped"
}

/** A sandbox as it was given by itself. */
export const toSandbox = (vm: Vm): SandboxValue => {
  const session = vm.currentSession()
  const hasFiles = vm.currentSnapshotId !== undefined
  const isLost = (session.status === "failed" || session.status === "aborted") && !hasFiles
  const status = isLost ? "failed" : statuses[session.status]
  const isOver = status === "stopped" || status === "failed"
  const end = (session.startedAt ?? session.createdAt).getTime() + session.timeout
  return new Sandbox({
    name: SandboxName.make(vm.name),
    status,
    createdAt: DateTime.makeUnsafe(vm.createdAt),
    incarnation: session.sessionId,
    expiresAt: DateTime.makeUnsafe(isOver ? (vm.statusUpdatedAt ?? vm.updatedAt) : end),
    reason: isLost ? "Its virtual machine failed" : null
  })
}

/** A sandbox as a list tells of it. */
export const fromListing = (listed: ListedSandbox): SandboxValue => {
  const status = statuses[listed.status as Session["status"]] ?? "stopped"
  const changed = listed.statusUpdatedAt ?? listed.updatedAt
  const isOver = status === "stopped"
  return new Sandbox({
    name: SandboxName.make(listed.name),
    status,
    createdAt: DateTime.makeUnsafe(listed.createdAt),
    incarnation: listed.currentSessionId,
    expiresAt: DateTime.makeUnsafe(isOver ? changed : (listed.expiresAt ?? changed + (listed.timeout ?? 0))),
    reason: null
  })
}

/** How long a machine that was made to read is kept for the next who reads. */
const readerKept = Duration.seconds(20)

/** How long it runs at most, should nobody end it. */
const readerLifetime = Duration.toMillis(Duration.minutes(15))

/** Whether the session that was asked is over, or gone. */
export const isSessionOver = ({ isAbsent, isOver }: RequestFailed): boolean => isAbsent || isOver

/** Tries of what a sandbox refused that was on its way from one state to another. */
const again = { times: 4, schedule: Schedule.exponential("250 millis") }

export const make = Effect.fnUntraced(function* (api: Api, machine: CreateParams) {
  /** Machines made to read, by the snapshot they were made of. */
  const readers = yield* RcMap.make({
    lookup: (snapshot: string) =>
      Effect.gen(function* () {
        const name = SandboxName.make(`read-${randomUUID()}`)
        const asked = api.create({
          ...machine,
          name,
          timeout: readerLifetime,
          persistent: false,
          networkPolicy: "deny-all",
          source: { type: "snapshot", snapshotId: snapshot }
        })
        return yield* Effect.acquireRelease(
          asked.pipe(
            // An answer that was lost: its name was ours alone.
            Effect.catchIf(
              (refusal) => refusal.status === 400,
              (refusal) =>
                Effect.flatMap(api.get(name), (found) => Effect.mapError(Effect.fromOption(found), () => refusal))
            )
          ),
          () => Effect.ignore(api.remove(name))
        )
      }),
    idleTimeToLive: readerKept
  })

  const find = Effect.fnUntraced(function* (operation: string, name: SandboxName) {
    const found = yield* Effect.mapError(api.settled(name), unavailable(operation))
    return Option.isSome(found) ? found.value : yield* new SandboxGone({ name })
  })

  const running = Effect.fnUntraced(function* (operation: string, name: SandboxName) {
    const vm = yield* find(operation, name)
    return vm.status === "running" ? vm : yield* new SandboxNotRunning({ name, reason: null })
  })

  /**
   * Does something in a running sandbox. Where its session is over meanwhile it looks again, which waits until what was
   * stopping has stopped.
   */
  const inRunning = <A, E>(
    operation: string,
    name: SandboxName,
    use: (session: Session, vm: Vm) => Effect.Effect<A, E>
  ): Effect.Effect<A, Exclude<E, RequestFailed> | Idle> =>
    Effect.flatMap(running(operation, name), (vm) => use(vm.currentSession(), vm)).pipe(
      Effect.retry({ ...again, while: (error: unknown) => isRequestFailed(error) && isSessionOver(error) }),
      Effect.mapError((error) => (isRequestFailed(error) ? unavailable(operation)(error) : error))
    ) as Effect.Effect<A, Exclude<E, RequestFailed> | Idle>

  /** A machine that has the files of a sandbox, whether it runs or not. Never wakes it. */
  const seen = Effect.fnUntraced(function* (
    operation: string,
    name: SandboxName
  ): Effect.fn.Return<ReadableVm, RequestFailed | SandboxGone | SandboxUnavailable, Scope.Scope> {
    const vm = yield* find(operation, name)
    const session = vm.currentSession()
    if (vm.status === "running") {
      return { name, session, runs: session.sessionId, lostAt: session.createdAt.getTime(), giveUp: Effect.void }
    }
    const snapshot = vm.currentSnapshotId
    if (snapshot === undefined) return yield* new SandboxGone({ name })
    const giveUp = RcMap.invalidate(readers, snapshot)
    const reader = yield* RcMap.get(readers, snapshot).pipe(
      Effect.tapError(() => giveUp),
      Effect.catchIf(
        (refusal) => refusal.isGone,
        () => Effect.fail(new SandboxGone({ name }))
      )
    )
    const lostAt = (session.stoppedAt ?? vm.statusUpdatedAt ?? vm.updatedAt).getTime()
    return { name, session: reader.currentSession(), runs: null, lostAt, giveUp }
  })

  /** Reads what commands left in a sandbox, whether it runs or not. */
  const reading = <A, E>(
    operation: string,
    name: SandboxName,
    use: (seen: ReadableVm) => Effect.Effect<A, E | RequestFailed>
  ): Effect.Effect<A, E | SandboxGone | SandboxUnavailable> =>
    Effect.scoped(
      Effect.flatMap(seen(operation, name), (one) =>
        Effect.tapError(use(one), (error) =>
          isRequestFailed(error) && isSessionOver(error) ? one.giveUp : Effect.void
        )
      )
    ).pipe(
      Effect.retry({ ...again, while: (error) => isRequestFailed(error) && isSessionOver(error) }),
      Effect.catchIf(isRequestFailed, (refusal) => Effect.fail(unavailable(operation)(refusal)))
    ) as Effect.Effect<A, E | SandboxGone | SandboxUnavailable>

  return { find, running, inRunning, seen, reading }
})

export type SandboxVms = Effect.Success<ReturnType<typeof make>>

export const isRequestFailed = (error: unknown): error is RequestFailed =>
  typeof error === "object" && error !== null && (error as { readonly _tag?: unknown })._tag === "Refusal"
