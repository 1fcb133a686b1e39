/** Finds the virtual machine to use for a sandbox: the running one or, to read a stopped one, a VM booted from its files. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxGone, SandboxNotRunning, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Sandbox as Vm, Session } from "@vercel/sandbox"
import { Duration, Effect, Option, RcMap, Schedule, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import type { Api, CreateParams } from "./Api.ts"
import { type RequestFailed, unavailable } from "./RequestFailed.ts"

/** A VM that has the files of a sandbox. */
export interface ReadableVm {
  readonly name: SandboxName
  readonly session: Session
  /** The id of the sandbox's running session; null where the sandbox is stopped. */
  readonly runningSession: string | null
  /** Epoch milliseconds of the latest time at which a command that never ended was lost. */
  readonly lostAt: number
  /** Discards a reader VM, so that the next read boots another. Does nothing to a running sandbox. */
  readonly discard: Effect.Effect<void>
}

type NotUsable = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** How long an unused reader VM is kept for the next read. */
const readerIdleTime = Duration.seconds(20)

/** Milliseconds after which a reader VM stops by itself, should this process die. */
const readerLifetime = Duration.toMillis(Duration.minutes(15))

export const isRequestFailed = (error: unknown): error is RequestFailed =>
  typeof error === "object" && error !== null && (error as { readonly _tag?: unknown })._tag === "RequestFailed"

/** Whether the session that a request was sent to is over or gone. */
export const isSessionOver = ({ isAbsent, isOver }: RequestFailed): boolean => isAbsent || isOver

/** Retries of a request whose session ended while the sandbox changed its state. */
const sessionOverRetries = {
  times: 4,
  schedule: Schedule.exponential("250 millis"),
  while: (error: unknown) => isRequestFailed(error) && isSessionOver(error)
}

/** Reader VMs by the snapshot that they are booted from. */
const makeReaders = (api: Api, machine: CreateParams) =>
  RcMap.make({
    lookup: (snapshot: string) => {
      const name = SandboxName.make(`read-${randomUUID()}`)
      const created = api
        .create({
          ...machine,
          name,
          timeout: readerLifetime,
          persistent: false,
          networkPolicy: "deny-all",
          source: { type: "snapshot", snapshotId: snapshot }
        })
        .pipe(
          // The SDK retries a create whose response was lost. No other process uses this name, so an existing VM is
          // ours.
          Effect.catchIf(
            (failure) => failure.status === 400,
            (failure) =>
              Effect.flatMap(api.get(name), (found) => Effect.mapError(Effect.fromOption(found), () => failure))
          )
        )
      return Effect.acquireRelease(created, () => Effect.ignore(api.remove(name)))
    },
    idleTimeToLive: readerIdleTime
  })

export const make = Effect.fnUntraced(function* (api: Api, machine: CreateParams) {
  const readers = yield* makeReaders(api, machine)

  /** The VM of a sandbox once it neither starts nor stops. */
  const find = Effect.fnUntraced(function* (operation: string, name: SandboxName) {
    const found = yield* Effect.mapError(api.settled(name), unavailable(operation))
    return Option.isSome(found) ? found.value : yield* new SandboxGone({ name })
  })

  /** The VM of a sandbox that runs. */
  const findRunning = Effect.fnUntraced(function* (operation: string, name: SandboxName) {
    const vm = yield* find(operation, name)
    return vm.status === "running" ? vm : yield* new SandboxNotRunning({ name, reason: null })
  })

  /** Uses a running sandbox. If its session ends meanwhile, looks the sandbox up again, which waits for its stop. */
  const useRunning = <A, E>(
    operation: string,
    name: SandboxName,
    use: (session: Session, vm: Vm) => Effect.Effect<A, E>
  ): Effect.Effect<A, Exclude<E, RequestFailed> | NotUsable> =>
    Effect.flatMap(findRunning(operation, name), (vm) => use(vm.currentSession(), vm)).pipe(
      Effect.retry(sessionOverRetries),
      Effect.mapError((error) => (isRequestFailed(error) ? unavailable(operation)(error) : error))
    ) as Effect.Effect<A, Exclude<E, RequestFailed> | NotUsable>

  /** A VM that has the files of a sandbox, running or stopped. Never wakes the sandbox. */
  const readable = Effect.fnUntraced(function* (
    operation: string,
    name: SandboxName
  ): Effect.fn.Return<ReadableVm, RequestFailed | SandboxGone | SandboxUnavailable, Scope.Scope> {
    const vm = yield* find(operation, name)
    const session = vm.currentSession()
    if (vm.status === "running") {
      const lostAt = session.createdAt.getTime()
      return { name, session, runningSession: session.sessionId, lostAt, discard: Effect.void }
    }
    const snapshot = vm.currentSnapshotId
    if (snapshot === undefined) return yield* new SandboxGone({ name })
    const discard = RcMap.invalidate(readers, snapshot)
    const reader = yield* RcMap.get(readers, snapshot).pipe(
      Effect.tapError(() => discard),
      Effect.catchIf(
        (failure) => failure.isGone,
        () => Effect.fail(new SandboxGone({ name }))
      )
    )
    const lostAt = (session.stoppedAt ?? vm.statusUpdatedAt ?? vm.updatedAt).getTime()
    return { name, session: reader.currentSession(), runningSession: null, lostAt, discard }
  })

  /** Reads the files of a sandbox, running or stopped. */
  const useReadable = <A, E>(
    operation: string,
    name: SandboxName,
    use: (vm: ReadableVm) => Effect.Effect<A, E | RequestFailed>
  ): Effect.Effect<A, E | SandboxGone | SandboxUnavailable> =>
    Effect.scoped(
      Effect.flatMap(readable(operation, name), (vm) =>
        Effect.tapError(use(vm), (error) => (isRequestFailed(error) && isSessionOver(error) ? vm.discard : Effect.void))
      )
    ).pipe(
      Effect.retry(sessionOverRetries),
      Effect.catchIf(isRequestFailed, (failure) => Effect.fail(unavailable(operation)(failure)))
    ) as Effect.Effect<A, E | SandboxGone | SandboxUnavailable>

  return { find, findRunning, useRunning, readable, useReadable }
})

export type SandboxVms = Effect.Success<ReturnType<typeof make>>
