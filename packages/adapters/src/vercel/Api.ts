/** Requests to Vercel through its SDK. Each carries the credentials of the moment and has a deadline. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import type { NetworkPolicy, Sandbox, Session, Snapshot } from "@vercel/sandbox"
import { Duration, Effect, Option, Redacted, Schedule } from "effect"
import { lineFetch } from "./LineFetch.ts"
import type { VercelOptions } from "./Options.ts"
import { RequestFailed, toRequestFailed } from "./RequestFailed.ts"

/** The SDK, which is loaded when the adapter is used. */
export type Sdk = Pick<typeof import("@vercel/sandbox"), "Sandbox" | "Snapshot">

/** Parameters of a new sandbox. Times are in milliseconds. */
export interface CreateParams {
  readonly name?: SandboxName
  readonly timeout?: number
  readonly ports?: Array<number>
  readonly persistent?: boolean
  readonly networkPolicy?: NetworkPolicy
  readonly resources?: { readonly vcpus: number }
  readonly region?: string
  readonly snapshotExpiration?: number
  readonly image?: string
  readonly source?: { readonly type: "snapshot"; readonly snapshotId: string }
}

/** A snapshot in a list of Vercel's. */
export type ListedSnapshot = Awaited<ReturnType<typeof Snapshot.list>>["snapshots"][number]

/** A sandbox in a list of Vercel's. */
export type ListedSandbox = Awaited<ReturnType<typeof Sandbox.list>>["sandboxes"][number]

/** The URL that the SDK uses. */
const apiUrl = "https://vercel.com/api"

/** How long an ordinary request may take, the SDK's retries included. */
const requestDeadline = Duration.minutes(2)

/** How long a virtual machine may take to start, stop or be snapshotted. */
export const stateChangeDeadline = Duration.minutes(5)

/** Vercel's largest page. */
const pageSize = 50

const noneIfGone = <A>(request: Effect.Effect<A, RequestFailed>): Effect.Effect<Option.Option<A>, RequestFailed> =>
  request.pipe(
    Effect.map(Option.some),
    Effect.catchIf(
      (failure) => failure.isGone,
      () => Effect.succeedNone
    )
  )

const isChangingState = (status: Session["status"]) =>
  status === "pending" || status === "stopping" || status === "snapshotting"

const withDeadline = (operation: string, deadline: Duration.Duration) =>
  Effect.timeoutOrElse({
    duration: deadline,
    orElse: () =>
      Effect.fail(
        new RequestFailed({
          status: null,
          code: null,
          retryable: true,
          cause: new Error(`${operation}: no response within ${Duration.format(deadline)}`)
        })
      )
  })

/** What each static call of the SDK takes. */
export interface RequestOptions {
  readonly token: string
  readonly teamId: string
  readonly projectId: string
  readonly fetch: typeof globalThis.fetch
  readonly signal: AbortSignal
}

/** Sends requests with the credentials of the moment. Interruption aborts a request. */
const makeRequests = (options: VercelOptions) => {
  const fetch = lineFetch(options.fetch ?? ((input, init) => globalThis.fetch(input, init)))

  /** Makes a static call of the SDK. */
  const ask = <A>(
    operation: string,
    request: (options: RequestOptions, signal: AbortSignal) => Promise<A>,
    deadline = requestDeadline
  ): Effect.Effect<A, RequestFailed> =>
    Effect.flatMap(options.credentials, ({ projectId, teamId, token: redacted }) => {
      const token = Redacted.value(redacted)
      return Effect.tryPromise({
        try: (signal) => request({ token, teamId, projectId, fetch, signal }, signal),
        catch: (thrown) => toRequestFailed(operation, thrown, token)
      }).pipe(withDeadline(operation, deadline))
    })

  /** Calls a method of an object that the SDK gave; it uses the credentials that the object was requested with. */
  const on = <A>(operation: string, request: (signal: AbortSignal) => Promise<A>, deadline = requestDeadline) =>
    ask(operation, (_, signal) => request(signal), deadline)

  return { ask, on }
}

type Requests = ReturnType<typeof makeRequests>

const makeSnapshots = ({ Snapshot }: Sdk, { ask }: Requests) => {
  /** The snapshots of a sandbox that can be booted from, automatic ones included. */
  const snapshots = (name: SandboxName) =>
    ask("snapshots", async (options) => {
      const all: Array<ListedSnapshot> = []
      for await (const one of await Snapshot.list({ ...options, name, limit: pageSize })) all.push(one)
      return all.filter(({ status }) => status === "created")
    })

  const hasSnapshot = (id: SnapshotId | string) =>
    Effect.map(
      noneIfGone(ask("snapshot", (options) => Snapshot.get({ ...options, snapshotId: id }))),
      Option.exists(({ status }) => status === "created")
    )

  /** Succeeds if the snapshot is already gone. */
  const removeSnapshot = (id: SnapshotId | string) =>
    Effect.asVoid(
      noneIfGone(
        ask("removeSnapshot", async (options) =>
          (await Snapshot.get({ ...options, snapshotId: id })).delete({ signal: options.signal })
        )
      )
    )

  return { snapshots, hasSnapshot, removeSnapshot }
}

const makeSandboxes = ({ Sandbox }: Sdk, { ask }: Requests) => {
  /** The sandbox in its present state. Never wakes it. */
  const get = (name: SandboxName) =>
    noneIfGone(ask("get", (options) => Sandbox.get({ ...options, name, resume: false })))

  /** The sandbox once it neither starts nor stops, or in its present state when that takes longer than the deadline. */
  const settled = (name: SandboxName) =>
    get(name).pipe(
      Effect.repeat({
        until: Option.match({ onNone: () => true, onSome: ({ status }) => !isChangingState(status) }),
        schedule: Schedule.spaced("250 millis").pipe(Schedule.upTo({ duration: stateChangeDeadline }))
      })
    )

  /** Starts a stopped sandbox; a stop in progress ends first. */
  const resume = (name: SandboxName, onResume?: () => void) =>
    ask(
      "resume",
      (options) =>
        Sandbox.get({ ...options, name, resume: true, ...(onResume && { onResume: async () => onResume() }) }),
      stateChangeDeadline
    )

  const create = (params: CreateParams) =>
    ask(
      "create",
      (options) =>
        Sandbox.create({ ...params, ...options } as unknown as NonNullable<Parameters<typeof Sandbox.create>[0]>),
      stateChangeDeadline
    )

  /** The sandboxes whose name begins with `namePrefix`. Stops after `last` if Vercel sorts names as JavaScript does. */
  const listed = (namePrefix: string, last: string) =>
    ask("list", async (options) => {
      const first = await Sandbox.list({
        ...options,
        limit: pageSize,
        sortBy: "name",
        sortOrder: "asc",
        ...(namePrefix !== "" && { namePrefix })
      })
      const found: Array<ListedSandbox> = []
      const isInOrder = () => found.every(({ name }, index) => index === 0 || found[index - 1]!.name <= name)
      for await (const { sandboxes } of first.pages()) {
        found.push(...sandboxes)
        if ((found.at(-1)?.name ?? "") > last && isInOrder()) break
      }
      return found
    })

  /** Deletes a sandbox that can't be requested. The SDK deletes only sandboxes that it has requested. */
  const removeByName = (name: SandboxName) =>
    ask(
      "remove",
      async ({ fetch, projectId, signal, teamId, token }) => {
        const url = `${apiUrl}/v2/sandboxes/${name}?${new URLSearchParams({ teamId, projectId })}`
        const response = await fetch(url, { method: "DELETE", headers: { authorization: `Bearer ${token}` }, signal })
        await response.body?.cancel()
        if (!response.ok) throw Object.assign(new Error(`Status code ${response.status}`), { response })
      },
      stateChangeDeadline
    )

  /** Succeeds if the sandbox is already gone. */
  const remove = (name: SandboxName) =>
    ask(
      "remove",
      async (options) => (await Sandbox.get({ ...options, name, resume: false })).delete({ signal: options.signal }),
      stateChangeDeadline
    ).pipe(
      Effect.catchIf(
        (failure) => failure.status === 410,
        () => removeByName(name)
      ),
      noneIfGone,
      Effect.asVoid
    )

  return { get, settled, resume, create, listed, remove }
}

export const make = (sdk: Sdk, options: VercelOptions) => {
  const requests = makeRequests(options)
  return { ...requests, ...makeSandboxes(sdk, requests), ...makeSnapshots(sdk, requests) }
}

export type Api = ReturnType<typeof make>
