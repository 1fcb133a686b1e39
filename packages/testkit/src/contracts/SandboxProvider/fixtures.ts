import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { type CommandSpec, SandboxProvider, type SandboxSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { Duration, Effect, Option, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { randomInt } from "node:crypto"
import { Step, type Vector } from "../../Program.ts"

export const print = (text: string) => Step.Print({ text, to: "stdout" })

export const path = (text: string) => SandboxPath.make(text)

export const unknownName = SandboxName.make("no-such-sandbox")

export const utf8 = (text: string) => new TextEncoder().encode(text)

/** A sandbox name that no other test uses; the sandbox is removed when the clause ends. */
export const withName = <A, E>(use: (name: SandboxName) => Effect.Effect<A, E, SandboxProvider>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => SandboxName.make(`t-${SecureRandom.uuidV4Unsafe()}`)),
    use,
    (name) => Effect.flatMap(SandboxProvider, (provider) => Effect.ignore(provider.remove(name)))
  )

export const specOf = (name: SandboxName, from?: SnapshotId) => ({
  name,
  from: Option.fromUndefinedOr(from),
  lifetime: Duration.minutes(5)
})

export const withSandbox = <A, E>(
  use: (name: SandboxName) => Effect.Effect<A, E, SandboxProvider>,
  more: Partial<SandboxSpec> = {}
) =>
  withName((name) =>
    Effect.andThen(
      Effect.flatMap(SandboxProvider, (provider) => provider.create({ ...specOf(name), ...more })),
      use(name)
    )
  )

let commandCount = 0

export const commandSpec = (vector: Vector, more: Partial<CommandSpec> = {}): CommandSpec => ({
  ...vector,
  id: CommandId.make(`c${commandCount++}`),
  cwd: null,
  env: {},
  timeout: Duration.minutes(1),
  ...more
})

export const readOutput = Effect.fnUntraced(function* (name: SandboxName, id: CommandId, from = OutputPosition.start) {
  const provider = yield* SandboxProvider
  const bytes: Record<"stdout" | "stderr", Array<number>> = { stdout: [], stderr: [] }
  yield* Stream.runForEach(provider.output(name, id, from), (piece) =>
    Effect.sync(() => {
      for (const byte of piece.bytes) bytes[piece.stream].push(byte)
    })
  )
  const text = (all: Array<number>) => new TextDecoder().decode(Uint8Array.from(all))
  return { stdout: text(bytes.stdout), stderr: text(bytes.stderr) }
})

/** Runs a command to its end and returns its output. */
export const runCommand = Effect.fnUntraced(function* (
  name: SandboxName,
  vector: Vector,
  more: Partial<CommandSpec> = {}
) {
  const provider = yield* SandboxProvider
  const spec = commandSpec(vector, more)
  yield* provider.start(name, spec)
  const { end } = yield* provider.wait(name, spec.id)
  return { id: spec.id, end: end!, ...(yield* readOutput(name, spec.id)) }
})

export const readText = Effect.fnUntraced(function* (name: SandboxName, file: string) {
  const provider = yield* SandboxProvider
  return yield* provider.readFile(name, path(file)).pipe(Stream.decodeText(), Stream.mkString)
})

/** The first page of a listing of a directory, `depth` levels deep. */
export const listFiles = (name: SandboxName, directory: string, depth = 1) =>
  Effect.flatMap(SandboxProvider, (provider) => provider.listFiles(name, path(directory), { depth, limit: 1000 }))

export const allLevels = 64

export const writeText = (name: SandboxName, file: string, text: string) =>
  Effect.flatMap(SandboxProvider, (provider) => provider.writeFile(name, path(file), Stream.make(utf8(text))))

export const tagOf = <E extends { readonly _tag: string }, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error._tag)

/** A random port, since sandboxes of some providers share a loopback. */
export const randomPort = () => Port.make(randomInt(20_000, 30_000))
