/** Tests of the Vercel adapter over its emulator, with faults and with counted requests. */
import type { VercelOptions } from "@castellan/adapters/vercel/Options.ts"
import * as VercelSandbox from "@castellan/adapters/vercel/VercelSandbox.ts"
import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { type CommandSpec, SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { VercelEmulator } from "@castellan/testkit/emulators/vercel/VercelEmulator.ts"
import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { type Compile, Step, type Vector } from "@castellan/testkit/Program.ts"
import { credentials } from "./emulatedVercel.ts"

const commandRequest = /\/cmd\?/
const logsRequest = /\/logs\?/

const specOf = (program: Vector, id = "c"): CommandSpec => ({
  ...program,
  id: CommandId.make(id),
  cwd: null,
  env: {},
  timeout: Duration.minutes(1)
})

const print = (text: string) => Step.Print({ text, to: "stdout" })
const sleep = (millis: number) => Step.Sleep({ millis })

/** Runs a test with a new sandbox, which is removed at the end together with planned faults. */
const created = <A, E>(use: (name: SandboxName) => Effect.Effect<A, E, SandboxProvider | VercelEmulator>) =>
  Effect.acquireUseRelease(
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const name = SandboxName.make(`t-${randomUUID()}`)
      yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
      return name
    }),
    use,
    (name) =>
      Effect.gen(function* () {
        ;(yield* VercelEmulator).faults.clear()
        yield* Effect.ignore((yield* SandboxProvider).remove(name))
      })
  )

/** The requests that an effect causes. */
const requestsOf = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const { requests } = yield* VercelEmulator
  const before = requests.length
  yield* effect
  return requests.slice(before)
})

/** Another server on the same Vercel account. */
const another = (options: Partial<VercelOptions> = {}) =>
  Effect.gen(function* () {
    const { fetch } = yield* VercelEmulator
    const layer = VercelSandbox.layer({ credentials: Effect.succeed(credentials), fetch, ...options })
    return Context.get(yield* Layer.build(layer), SandboxProvider)
  })

const textOf = (stream: Stream.Stream<{ readonly bytes: Uint8Array }, unknown>) =>
  Effect.map(Stream.runCollect(stream), (pieces) => Buffer.concat(pieces.map(({ bytes }) => bytes)).toString())

const snapshotsListed = Effect.fnUntraced(function* (name: SandboxName) {
  const { url } = yield* VercelEmulator
  const { projectId, teamId } = credentials
  const listing = `${url}/v2/sandboxes/snapshots?teamId=${teamId}&project=${projectId}&name=${name}`
  const answer = yield* Effect.promise(async () => {
    const headers = { authorization: `Bearer ${Redacted.value(credentials.token)}` }
    return (await (await fetch(listing, { headers })).json()) as { snapshots: ReadonlyArray<{ status: string }> }
  })
  return answer.snapshots.filter(({ status }) => status === "created").length
})

type Emulated<E> = Layer.Layer<SandboxProvider | VercelEmulator, E>

/** The behaviour of the adapter when Vercel or the connection fails. */
export const survives = <E>(subject: string, layer: Emulated<E>, compile: Compile): void =>
  it.layer(layer, { timeout: "60 seconds", excludeTestServices: true })(`Faults of Vercel (${subject})`, (it) => {
    it.effect("creates one sandbox when the response to a create is lost", () =>
      Effect.gen(function* () {
        const { faults } = yield* VercelEmulator
        const provider = yield* SandboxProvider
        const name = SandboxName.make(`t-${randomUUID()}`)
        faults.plan({ kind: "droppedAfter" }, { method: "POST", path: /^\/v3\/sandboxes/ })
        const requests = yield* requestsOf(
          Effect.gen(function* () {
            const made = yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
            assert.deepStrictEqual(Option.getOrThrow(yield* provider.find(name)), made)
          })
        )
        const [lost, repeated, ...looks] = requests.map(({ method, status }) => [method, status])
        assert.deepStrictEqual(
          [lost, repeated],
          [
            ["POST", null],
            ["POST", 400]
          ]
        )
        // The number of polls depends on the time until it runs.
        assert.isNotEmpty(looks)
        for (const look of looks) assert.deepStrictEqual(look, ["GET", 200])
        yield* provider.remove(name)
      })
    )

    it.effect("runs a command once when the response to its start is lost, and other servers find it", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          const spec = specOf(compile(Step.Append({ path: "times", text: "once\n" }), print("begun"), sleep(30_000)))
          faults.plan({ kind: "droppedAfter" }, { method: "POST", path: commandRequest })
          const started = yield* provider.start(name, spec)
          const other = yield* another()
          assert.deepStrictEqual(yield* other.start(name, spec), started)
          assert.deepStrictEqual(yield* other.command(name, spec.id), started)
          yield* Stream.runHead(other.output(name, spec.id, OutputPosition.start))
          yield* other.kill(name, spec.id)
          assert.strictEqual((yield* provider.wait(name, spec.id)).end?.by, "killed")
          assert.strictEqual(yield* textOf(other.output(name, spec.id, OutputPosition.start)), "begun")
          const times = provider.readFile(name, SandboxPath.make("times"))
          assert.strictEqual(yield* times.pipe(Stream.decodeText(), Stream.mkString), "once\n")
        }, Effect.scoped)
      )
    )

    it.effect("finds a started command when the stream of its start is cut off", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          const lost = { method: "POST", path: commandRequest, times: 3 }
          for (const [id, fault, which] of [
            ["posted", { kind: "droppedAfter" }, lost],
            ["ended", { kind: "endedEarly", afterLines: 0 }, { path: logsRequest }],
            ["reset", { kind: "reset", afterBytes: 0 }, { path: logsRequest }]
          ] as const) {
            faults.plan(fault, which)
            const spec = specOf(compile(sleep(500), print("x"), Step.Exit({ code: 4 })), id)
            yield* provider.start(name, spec)
            assert.deepInclude((yield* provider.wait(name, spec.id)).end, { by: "exited", exitCode: 4 })
            assert.strictEqual(yield* textOf(provider.output(name, spec.id, OutputPosition.start)), "x")
          }
        })
      )
    )

    it.effect("resumes output where its stream was cut off, without loss or repetition", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          const steps = Array.from({ length: 8 }, (_, index) => [print(`${index}€`), sleep(100)]).flat()
          yield* provider.start(name, specOf(compile(...steps)))
          faults.plan({ kind: "cutOff", afterMs: 150 }, { path: logsRequest })
          faults.plan({ kind: "reset", afterBytes: 90 }, { path: logsRequest })
          faults.plan({ kind: "endedEarly", afterLines: 2 }, { path: logsRequest })
          faults.plan({ kind: "oneByteChunks" }, { path: logsRequest })
          const text = yield* textOf(provider.output(name, CommandId.make("c"), OutputPosition.start))
          assert.strictEqual(text, "0€1€2€3€4€5€6€7€")
        })
      )
    )

    it.effect("keeps waiting for a command when the stream is cut off", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          yield* provider.start(name, specOf(compile(sleep(1500), Step.Exit({ code: 9 }))))
          yield* provider.command(name, CommandId.make("c"))
          faults.plan({ kind: "cutOff", afterMs: 300 }, { path: logsRequest, times: 3 })
          assert.strictEqual((yield* provider.wait(name, CommandId.make("c"))).end?.exitCode, 9)
        })
      )
    )

    it.effect("ends the reading script but not the command when a reader leaves", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const provider = yield* SandboxProvider
          yield* provider.start(name, specOf(compile(sleep(30_000))))
          const requests = yield* requestsOf(
            Effect.gen(function* () {
              const reading = yield* Effect.forkChild(
                Stream.runDrain(provider.output(name, CommandId.make("c"), OutputPosition.start))
              )
              yield* Effect.sleep("500 millis")
              yield* Fiber.interrupt(reading)
            })
          )
          assert.strictEqual(requests.filter(({ path }) => path.includes("/kill")).length, 1)
          assert.isNull((yield* provider.command(name, CommandId.make("c"))).end)
        })
      )
    )

    it.effect(
      "reports a command as lost when its sandbox expires, and reads its output without waking the sandbox",
      () =>
        created(
          Effect.fnUntraced(function* (name) {
            const { faults } = yield* VercelEmulator
            const provider = yield* SandboxProvider
            const id = CommandId.make("c")
            faults.plan({ kind: "expires", afterMs: 700 }, { method: "POST", path: commandRequest })
            yield* provider.start(name, specOf(compile(print("before"), sleep(30_000))))
            const requests = yield* requestsOf(
              Effect.gen(function* () {
                assert.strictEqual(yield* textOf(provider.output(name, id, OutputPosition.start)), "before")
                assert.deepInclude((yield* provider.wait(name, id)).end, { by: "lost", exitCode: 137 })
                yield* provider.kill(name, id)
                assert.strictEqual((yield* provider.findMany([name, SandboxName.make(`${name}x`)])).length, 1)
                assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
              })
            )
            assert.deepStrictEqual(
              requests.filter(({ path }) => path.includes("resume=true")),
              []
            )
          })
        )
    )

    it.effect("reports a sandbox without its snapshot as gone, and can create it again", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          yield* provider.stop(name)
          faults.plan({ kind: "snapshotNotFound" }, { path: /resume=true/ })
          const error = yield* Effect.flip(provider.resume(name, Duration.minutes(5)))
          assert.strictEqual(error._tag, "SandboxGone")
          const made = yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
          assert.strictEqual(made.status, "running")
        })
      )
    )

    it.effect("takes one snapshot when the response is lost", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          faults.plan({ kind: "droppedAfter" }, { method: "POST", path: /\/snapshot\?/ })
          const made = yield* provider.snapshot(name)
          assert.deepStrictEqual(yield* provider.snapshots(name), [made])
          yield* provider.removeSnapshot(made.id)
        })
      )
    )

    it.effect("recognizes an extension whose response was lost", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* another({ plan: "pro" })
          const hours = (to: { readonly expiresAt: DateTimeLike }) =>
            Math.round((to.expiresAt.epochMilliseconds - Date.now()) / 3_600_000)
          // The plan allows one such extension, and the SDK retries when the response is lost.
          faults.plan({ kind: "droppedAfter" }, { method: "POST", path: /extend-timeout/ })
          assert.strictEqual(hours(yield* provider.extend(name, Duration.hours(13))), 13)
          assert.strictEqual(hours(Option.getOrThrow(yield* provider.find(name))), 13)
        }, Effect.scoped)
      )
    )

    it.effect("boots another reader when the reader of a stopped sandbox is gone", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          const { id } = yield* provider.start(name, specOf(compile(print("left"))))
          yield* provider.wait(name, id)
          yield* provider.stop(name)
          const left = textOf(provider.output(name, id, OutputPosition.start))
          assert.strictEqual(yield* left, "left")
          faults.plan({ kind: "sandboxStopped" }, { method: "POST", path: commandRequest })
          const requests = yield* requestsOf(
            Effect.gen(function* () {
              assert.strictEqual((yield* provider.command(name, id)).end?.by, "exited")
              faults.plan({ kind: "sandboxStopped" }, { method: "POST", path: commandRequest })
              assert.strictEqual(yield* left, "left")
            })
          )
          const made = requests.filter(({ method, path }) => method === "POST" && path.startsWith("/v3/sandboxes?"))
          assert.strictEqual(made.length, 2)
        })
      )
    )

    it.effect("retries requests that are refused while a sandbox stops or is snapshotted", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          faults.plan({ kind: "sandboxSnapshotting" }, { path: commandRequest })
          assert.deepStrictEqual(
            (yield* provider.listFiles(name, SandboxPath.make("."), { depth: 1, limit: 10 })).files,
            []
          )
          faults.plan({ kind: "sandboxStopping" }, { path: /extend-timeout/ })
          yield* provider.extend(name, Duration.minutes(1))
          yield* provider.stop(name)
          faults.plan({ kind: "sandboxStopping" }, { path: /resume=true/ })
          assert.strictEqual((yield* provider.resume(name, Duration.minutes(5))).status, "running")
        })
      )
    )

    it.effect("does not wake a sandbox whose session ends meanwhile", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          faults.plan({ kind: "sandboxStopped" }, { path: commandRequest })
          yield* provider.start(name, specOf(compile(Step.Exit({ code: 0 }))))
          faults.plan({ kind: "expires", afterMs: 0 }, { method: "POST", path: commandRequest })
          const list = provider.listFiles(name, SandboxPath.make("."), { depth: 1, limit: 10 })
          yield* Effect.ignore(list)
          assert.strictEqual((yield* Effect.flip(list))._tag, "SandboxNotRunning")
        })
      )
    )

    const refusals = {
      "a rate limit": [{ kind: "rateLimited", retryAfterSeconds: 60 }, true, 1],
      "an internal error": [{ kind: "status", status: 500 }, true, 3],
      "a dropped connection": [{ kind: "droppedBefore" }, true, 3],
      "an invalid token": [{ kind: "status", status: 401, code: "unauthorized" }, false, 1],
      "an exhausted plan": [{ kind: "status", status: 402, code: "payment_required" }, false, 1],
      "no permission": [{ kind: "status", status: 403, code: "forbidden" }, false, 1]
    } as const

    for (const [what, [fault, retryable, times]] of Object.entries(refusals)) {
      it.effect(`reports ${what} as ${retryable ? "" : "not "}retryable`, () =>
        created(
          Effect.fnUntraced(function* (name) {
            const { faults } = yield* VercelEmulator
            const provider = yield* SandboxProvider
            faults.plan(fault, { times, path: new RegExp(name) })
            const error = yield* Effect.flip(provider.find(name))
            assert.instanceOf(error, SandboxUnavailable)
            assert.deepInclude(error, { operation: "find", retryable })
          })
        )
      )
    }

    it.effect("does not repeat a token that Vercel's error contains", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const { faults } = yield* VercelEmulator
          const provider = yield* SandboxProvider
          const message = `The token ${Redacted.value(credentials.token)} is not valid`
          faults.plan({ kind: "status", status: 403, code: "forbidden", message })
          const { cause } = yield* Effect.flip(provider.find(name))
          assert.match(String(cause), /403 .*The token \[token\] is not valid/)
        })
      )
    )
  })

/** The requests of the adapter and their number. */
export const asks = <E>(subject: string, layer: Emulated<E>): void =>
  it.layer(layer, { timeout: "60 seconds", excludeTestServices: true })(`Requests to Vercel (${subject})`, (it) => {
    it.effect("uses a renewed token at once", () =>
      created(
        Effect.fnUntraced(function* (name) {
          let token = "first"
          const provider = yield* another({
            credentials: Effect.sync(() => ({ ...credentials, token: Redacted.make(token) }))
          })
          const tokens = (effect: Effect.Effect<unknown, unknown>) =>
            Effect.map(requestsOf(effect), (all) => new Set(all.map(({ headers }) => headers.authorization)))
          const list = provider.listFiles(name, SandboxPath.make("."), { depth: 1, limit: 10 })
          assert.deepStrictEqual(yield* tokens(list), new Set(["Bearer first"]))
          token = "second"
          assert.deepStrictEqual(yield* tokens(list), new Set(["Bearer second"]))
        }, Effect.scoped)
      )
    )

    it.effect("passes a command's variables outside its arguments, which Vercel's API shows", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const provider = yield* SandboxProvider
          const spec = { ...specOf({ command: "true", args: [] }), env: { TOKEN: "word of a test" } }
          const requests = yield* requestsOf(provider.start(name, spec))
          const bodies = requests.flatMap(({ body }) => (body === undefined || body === null ? [] : [body]))
          assert.isTrue(bodies.some((body) => JSON.stringify(body).includes("word of a test")))
          for (const body of bodies) {
            assert.notInclude(JSON.stringify((body as { readonly args?: unknown }).args ?? []), "word of a test")
          }
        })
      )
    )

    it.effect("finds many sandboxes with one request", () =>
      created((one) =>
        created(
          Effect.fnUntraced(function* (two) {
            const provider = yield* SandboxProvider
            const requests = yield* requestsOf(provider.findMany([one, two, SandboxName.make("t-nobody")]))
            assert.strictEqual(requests.length, 1)
          })
        )
      )
    )

    it.effect("keeps one automatic snapshot of a sandbox, and none after its removal", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const provider = yield* SandboxProvider
          for (let round = 0; round < 2; round++) {
            yield* provider.stop(name)
            assert.strictEqual(yield* snapshotsListed(name), 1)
            yield* provider.resume(name, Duration.minutes(5))
          }
          const { id } = yield* provider.snapshot(name)
          assert.strictEqual(yield* snapshotsListed(name), 1)
          yield* provider.remove(name)
          assert.strictEqual(yield* snapshotsListed(name), 1)
          yield* provider.removeSnapshot(id)
          assert.strictEqual(yield* snapshotsListed(name), 0)
        })
      )
    )

    it.effect("keeps the files of a sandbox when the snapshot that stopped it is removed", () =>
      created(
        Effect.fnUntraced(function* (name) {
          const provider = yield* SandboxProvider
          const path = SandboxPath.make("file")
          yield* provider.writeFile(name, path, Stream.make(Buffer.from("kept")))
          const { id } = yield* provider.snapshot(name)
          yield* provider.removeSnapshot(id)
          assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
          yield* provider.resume(name, Duration.minutes(5))
          assert.strictEqual(yield* provider.readFile(name, path).pipe(Stream.decodeText(), Stream.mkString), "kept")
        })
      )
    )

    it.effect("limits the lifetime of a sandbox to the maximum", () =>
      created(
        Effect.fnUntraced(function* (existing) {
          const provider = yield* another({ maxMinutes: 10 })
          const minutes = ({ createdAt, expiresAt }: { createdAt: DateTimeLike; expiresAt: DateTimeLike }) =>
            Math.round((expiresAt.epochMilliseconds - createdAt.epochMilliseconds) / 60_000)
          const name = SandboxName.make(`t-${randomUUID()}`)
          const made = yield* provider.create({ name, from: Option.none(), lifetime: Duration.hours(3) })
          assert.strictEqual(minutes(made), 10)
          assert.deepStrictEqual(yield* provider.extend(name, Duration.minutes(5)), made)
          assert.strictEqual(minutes(yield* provider.extend(existing, Duration.minutes(30))), 10)
          yield* provider.remove(name)
        }, Effect.scoped)
      )
    )

    it.effect("requests the configured resources, and allows the registry where the network is denied", () =>
      Effect.gen(function* () {
        const provider = yield* another({
          plan: "pro",
          vcpus: 4,
          region: "fra1",
          network: "deny",
          registryHost: "packages.example",
          keptDays: 3
        })
        const name = SandboxName.make(`t-${randomUUID()}`)
        const spec = { name, from: Option.none(), lifetime: Duration.minutes(7) }
        const [first] = yield* requestsOf(provider.create({ ...spec, registry: true, ports: [5173 as never] }))
        yield* provider.remove(name)
        const [second] = yield* requestsOf(provider.create(spec))
        yield* provider.remove(name)
        assert.deepInclude(first?.body, {
          name,
          projectId: "prj_test",
          timeout: 420_000,
          ports: [5173],
          persistent: true,
          region: "fra1",
          resources: { vcpus: 4 },
          snapshotExpiration: 3 * 24 * 60 * 60 * 1000,
          networkPolicy: { allow: ["packages.example"] }
        })
        assert.deepInclude(second?.body, { networkPolicy: { mode: "deny-all" } })
        const many = Array.from({ length: 16 }, (_, index) => (3000 + index) as never)
        const error = yield* Effect.flip(provider.create({ ...spec, ports: many }))
        assert.deepInclude(error, { _tag: "SandboxUnavailable", retryable: false })
      }).pipe(Effect.scoped)
    )
  })

interface DateTimeLike {
  readonly epochMilliseconds: number
}
