/** Commands that can happen to sessions. fast-check generates, shrinks and prints them. */
import { Data } from "effect"
import * as fc from "fast-check"
import { Trouble } from "./ProviderFaults.ts"

/** Servers that share stores and a provider. */
export const servers = 3

/** The sessions that exist from the start; the last one has a repository. */
export const sessions = 2

interface Asked {
  readonly server: number
  readonly session: number
  /** Milliseconds until the next command: too short for a response, or long enough. */
  readonly gap: number
}

export type Command = Data.TaggedEnum<{
  Open: Asked
  OpenOnce: Omit<Asked, "session">
  Activity: Asked
  Run: Asked & { readonly seconds: number }
  Write: { readonly session: number; readonly file: number }
  Hibernate: Asked
  Archive: Asked
  Unarchive: Asked
  Reconnect: Asked
  /** Advances the clock while the reconcilers of all servers work. */
  Wait: { readonly seconds: number }
  /** The provider stops the sandbox, and keeps its files. */
  Expire: { readonly session: number }
  /** The provider no longer has the sandbox. */
  Remove: { readonly session: number }
  /** The provider lists the sandbox but has lost its files. */
  LoseFiles: { readonly session: number }
  Trouble: { readonly method: string; readonly trouble: Trouble }
  /** The provider becomes unreachable, or reachable again. */
  Cut: { readonly isCut: boolean }
  /** A server is killed at one of its next calls. */
  Crash: { readonly server: number; readonly calls: number; readonly moment: "before" | "after" }
  Restart: { readonly server: number }
  /** All faults end, and the servers get the time that they need. */
  Settle: {}
}>
export const Command = Data.taggedEnum<Command>()

const server = fc.nat({ max: servers - 1 })
const session = fc.nat({ max: sessions - 1 })

const gap = fc.constantFrom(0, 1, 3, 100)
const asked = fc.record({ server, session, gap })

/** Call delays are shorter than a lease, except for stops, which may arrive at any time. */
const trouble = fc.oneof(
  fc
    .constantFrom("create", "resume", "stop", "extend", "remove", "find", "findMany", "snapshot")
    .map((method) => Command.Trouble({ method, trouble: Trouble.LostAnswer() })),
  fc
    .constantFrom("create", "resume", "stop", "remove")
    .map((method) => Command.Trouble({ method, trouble: Trouble.Twice() })),
  fc
    .tuple(
      fc.constantFrom("create", "resume", "extend", "remove", "find", "findMany"),
      fc.constantFrom(0, 3000, 40_000),
      fc.constantFrom(0, 3000, 100_000)
    )
    .map(([method, before, after]) => Command.Trouble({ method, trouble: Trouble.Slow({ before, after }) })),
  fc
    .tuple(fc.constantFrom(1000, 70_000, 150_000), fc.constantFrom(0, 5000))
    .map(([before, after]) => Command.Trouble({ method: "stop", trouble: Trouble.Slow({ before, after }) })),
  fc
    .constantFrom("create", "resume", "extend", "snapshot")
    .map((method) => Command.Trouble({ method, trouble: Trouble.Refused({ after: 0 }) }))
)

const crash = fc.record({
  server,
  calls: fc.nat({ max: 14 }),
  moment: fc.constantFrom("before" as const, "after" as const)
})

const waits = fc.constantFrom(1, 5, 20, 65, 130, 310, 620, 1900)

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: asked.map(Command.Open) },
  { weight: 1, arbitrary: fc.record({ server, gap }).map(Command.OpenOnce) },
  { weight: 2, arbitrary: asked.map(Command.Activity) },
  {
    weight: 3,
    arbitrary: fc.record({ server, session, gap, seconds: fc.constantFrom(20, 900, 2400) }).map(Command.Run)
  },
  { weight: 4, arbitrary: fc.record({ session, file: fc.nat({ max: 1 }) }).map(Command.Write) },
  { weight: 4, arbitrary: asked.map(Command.Hibernate) },
  { weight: 3, arbitrary: asked.map(Command.Archive) },
  { weight: 3, arbitrary: asked.map(Command.Unarchive) },
  { weight: 2, arbitrary: asked.map(Command.Reconnect) },
  { weight: 6, arbitrary: waits.map((seconds) => Command.Wait({ seconds })) },
  { weight: 1, arbitrary: fc.record({ session }).map(Command.Expire) },
  { weight: 1, arbitrary: fc.record({ session }).map(Command.Remove) },
  { weight: 1, arbitrary: fc.record({ session }).map(Command.LoseFiles) },
  { weight: 6, arbitrary: trouble },
  { weight: 1, arbitrary: fc.boolean().map((isCut) => Command.Cut({ isCut })) },
  { weight: 4, arbitrary: crash.map(Command.Crash) },
  { weight: 3, arbitrary: fc.record({ server }).map(Command.Restart) },
  { weight: 1, arbitrary: fc.constant(Command.Settle()) }
)

/** A history of a service from beginning to end. */
export type History = ReadonlyArray<Command>

const closely = fc.record({ server, session: fc.constant(sessions - 1), gap: fc.constantFrom(0, 0, 1, 3, 100, 1500) })

const slowness = fc
  .record({
    method: fc.constantFrom("find", "create", "resume", "stop", "findMany"),
    before: fc.constantFrom(0, 500, 2000, 30_000),
    after: fc.constantFrom(0, 500, 2000, 70_000)
  })
  .map(({ method, ...slow }) => Command.Trouble({ method, trouble: Trouble.Slow(slow) }))

/** Many concurrent requests for one session, while the provider is slow. */
const crowd: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: closely.map(Command.Open) },
  { weight: 3, arbitrary: closely.map(Command.Hibernate) },
  { weight: 4, arbitrary: closely.map(Command.Archive) },
  { weight: 4, arbitrary: closely.map(Command.Unarchive) },
  { weight: 2, arbitrary: closely.map(Command.Reconnect) },
  { weight: 6, arbitrary: slowness },
  { weight: 3, arbitrary: crash.map(Command.Crash) },
  { weight: 3, arbitrary: fc.record({ server }).map(Command.Restart) },
  { weight: 2, arbitrary: fc.constantFrom(1, 5, 65, 130).map((seconds) => Command.Wait({ seconds })) },
  { weight: 6, arbitrary: command }
)

export const history: fc.Arbitrary<History> = fc.oneof(
  fc.array(command, { minLength: 1, maxLength: 30, size: "max" }),
  fc.array(crowd, { minLength: 5, maxLength: 30, size: "max" })
)
