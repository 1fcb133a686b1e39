/** Requests to Vercel by its SDK: credentials and `fetch` go with each, and a request that hangs is given up. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { type NetworkPolicy, Sandbox, type Session, Snapshot } from "@vercel/sandbox"
import { Duration, Effect, Option, Redacted, Schedule } from "effect"
import type { VercelOptions } from "./Options.ts"
import { RequestFailed, toRequestFailed } from "./RequestFailed.ts"
import { lineFetch } from "./LineFetch.ts"

/** What is chosen of a sandbox. */
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

type Listed = Awaited<ReturnType<typeof Sandbox.list>>["sandboxes"][number]

/** What Vercel tells of a snapshot in a list. */
export type ListedSnapshot = Awaited<ReturnType<typeof Snapshot.list>>["snapshots"][number]

/** What Vercel tells of a sandbox in a list. */
export type ListedSandbox = Listed

/** Where the API is, as the SDK has it. */
const vercel = "https://vercel.com/api"

/** How long an ordinary request may take, with the SDK's own tries. */
const answeredWithin = Duration.minutes(2)

/** How long it may take to start, stop or snapshot a machine. */
export const stateChangeDeadline = Duration.minutes(5)

/** The most that Vercel lists at once. */
const page = 50

const absent = <A>(asked: Effect.Effect<A, RequestFailed>): Effect.Effect<Option.Option<A>, RequestFailed> =>
  asked.pipe(
    Effect.map(Option.some),
    Effect.catchIf(
      (refusal) => refusal.isGone,
      () => Effect.succeedNone
    )
  )

const goneIsFine = <A>(asked: Effect.Effect<A, RequestFailed>): Effect.Effect<void, RequestFailed> =>
  asked.pipe(
    Effect.asVoid,
    Effect.catchIf(
      (refusal) => refusal.isGone,
      () => Effect.void
    )
  )

/** Whether a session has no end before it yet. */
const isSettling = (status: Session["status"]) =>
  status === "pending" || status === "stopping" || status === "snapshotting"

export const make = (options: VercelOptions) => {
  const fetch = lineFetch(options.fetch ?? ((input, init) => globalThis.fetch(input, init)))

  /** Asks what a static call of the SDK asks. */
  const ask = <A>(
    operation: string,
    asked: (
      who: {
        readonly token: string
        readonly teamId: string
        readonly projectId: string
        readonly fetch: typeof fetch
        readonly signal: AbortSignal
      },
      signal: AbortSignal
    ) => Promise<A>,
    within = answeredWithin
  ): Effect.Effect<A, RequestFailed> =>
    Effect.flatMap(options.credentials, ({ projectId, teamId, token: redacted }) => {
      const token = Redacted.value(redacted)
      return Effect.tryPromise({
        try: (signal) => asked({ token, teamId, projectId, fetch, signal }, signal),
        catch: (thrown) => toRequestFailed(operation, thrown, token)
      }).pipe(answered(operation, within))
    })

  /** Asks by what a static call gave, with the credentials that call was given. */
  const on = <A>(operation: string, asked: (signal: AbortSignal) => Promise<A>, within = answeredWithin) =>
    ask(operation, (_, signal) => asked(signal), within)

  /** The sandbox as it is. Never wakes it. */
  const get = (name: SandboxName) => absent(ask("get", (who) => Sandbox.get({ ...who, name, resume: false })))

  /** The sandbox once it neither starts nor stops any more, or as it is when that takes too long. */
  const settled = (name: SandboxName) =>
    get(name).pipe(
      Effect.repeat({
        until: Option.match({ onNone: () => true, onSome: ({ status }) => !isSettling(status) }),
        schedule: Schedule.spaced("250 millis").pipe(Schedule.upTo({ duration: stateChangeDeadline }))
      })
    )

  /** Runs a stopped sandbox again; Vercel answers once what was stopping has stopped. */
  const resume = (name: SandboxName, onResume?: () => void) =>
    ask(
      "resume",
      (who) => Sandbox.get({ ...who, name, resume: true, ...(onResume && { onResume: async () => onResume() }) }),
      stateChangeDeadline
    )

  const create = (params: CreateParams) =>
    ask(
      "create",
      (who) => Sandbox.create({ ...params, ...who } as unknown as NonNullable<Parameters<typeof Sandbox.create>[0]>),
      stateChangeDeadline
    )

  /** Sandboxes by name, those that begin with it; no further than to `last`, as long as they come in our order. */
  const listed = (namePrefix: string, last: string) =>
    ask("list", async (who) => {
      const first = await Sandbox.list({
        ...who,
        limit: page,
        sortBy: "name",
        sortOrder: "asc",
        ...(namePrefix !== "" && { namePrefix })
      })
      const found: Array<Listed> = []
      const isInOrder = () => found.every(({ name }, index) => index === 0 || found[index - 1]!.name <= name)
      for await (const { sandboxes } of first.pages()) {
        found.push(...sandboxes)
        if ((found.at(-1)?.name ?? "") > last && isInOrder()) break
      }
      return found
    })

  /** The snapshots of a sandbox, whoever made them, that can be booted from. */
  const snapshots = (name: SandboxName) =>
    ask("snapshots", async (who) => {
      const all: Array<ListedSnapshot> = []
      for await (const one of await Snapshot.list({ ...who, name, limit: page })) all.push(one)
      return all.filter(({ status }) => status === "created")
    })

  const hasSnapshot = (id: SnapshotId | string) =>
    Effect.map(
      absent(ask("snapshot", (who) => Snapshot.get({ ...who, snapshotId: id }))),
      Option.exists(({ status }) => status === "created")
    )

  const removeSnapshot = (id: SnapshotId | string) =>
    goneIsFine(
      ask("removeSnapshot", async (who) =>
        (await Snapshot.get({ ...who, snapshotId: id })).delete({ signal: who.signal })
      )
    )

  /** Deletes by its name a sandbox that can't be looked at. The SDK deletes only what it was given. */
  const removeUnseen = (name: SandboxName) =>
    ask(
      "remove",
      async ({ fetch, projectId, signal, teamId, token }) => {
        const url = `${vercel}/v2/sandboxes/${name}?${new URLSearchParams({ teamId, projectId })}`
        const response = await fetch(url, { method: "DELETE", headers: { authorization: `Bearer ${token}` }, signal })
        await response.body?.cancel()
        if (!response.ok) throw Object.assign(new Error(`Status code ${response.status}`), { response })
      },
      stateChangeDeadline
    )

  const remove = (name: SandboxName) =>
    goneIsFine(
      ask(
        "remove",
        async (who) => (await Sandbox.get({ ...who, name, resume: false })).delete({ signal: who.signal }),
        stateChangeDeadline
      ).pipe(
        Effect.catchIf(
          (refusal) => refusal.status === 410,
          () => removeUnseen(name)
        )
      )
    )

  return { ask, on, get, settled, resume, create, listed, snapshots, hasSnapshot, removeSnapshot, remove }
}

export type Api = ReturnType<typeof make>

const answered = (operation: string, within: Duration.Duration) =>
  Effect.timeoutOrElse({
    duration: within,
    orElse: () =>
      Effect.fail(
        new RequestFailed({
          status: null,
          code: null,
          retryable: true,
          cause: new Error(`${operation}: no answer in ${Duration.format(within)}`)
        })
      )
  })
