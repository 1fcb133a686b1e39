import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { inShell } from "@castellan/testkit/Program.ts"
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { emulated } from "./emulatedVercel.ts"
import { asks, survives } from "./faults.ts"

survives("sandboxes of this machine", emulated(), inShell)
asks("sandboxes of this machine", emulated())

it.layer(emulated(), { timeout: "60 seconds", excludeTestServices: true })("Commands in the Vercel adapter", (it) => {
  it.effect(
    "are killed with children that changed their environment, and those of an earlier session end at once",
    () =>
      Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const name = SandboxName.make("t-tree")
        yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
        const begin = (id: string, script: string) =>
          provider.start(name, {
            id: CommandId.make(id),
            command: "sh",
            args: ["-c", script],
            cwd: null,
            env: {},
            timeout: Duration.minutes(1)
          })
        yield* begin("tree", "env -i sh -c 'while :; do echo x >> beats; sleep 0.02; done' & wait")
        yield* Effect.sleep("500 millis")
        yield* provider.kill(name, CommandId.make("tree"))
        const beats = Stream.runCount(provider.readFile(name, SandboxPath.make("beats")).pipe(Stream.flattenIterable))
        const before = yield* beats
        yield* Effect.sleep("200 millis")
        assert.isAbove(before, 0)
        assert.strictEqual(yield* beats, before)

        yield* begin("lost", "sleep 60")
        yield* provider.stop(name)
        yield* provider.resume(name, Duration.minutes(5))
        const [took] = yield* Effect.timed(provider.kill(name, CommandId.make("lost")))
        assert.isBelow(Duration.toMillis(took), 5000)
      })
  )

  it.effect("create files with the default permissions, while their records are private", () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const name = SandboxName.make("t-umask")
      const id = CommandId.make("c")
      yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
      const args = ["-c", "umask; stat -c %a /var/tmp/castellan/commands"]
      yield* provider.start(name, { id, command: "sh", args, cwd: null, env: {}, timeout: Duration.minutes(1) })
      const output = provider.output(name, id, OutputPosition.start).pipe(
        Stream.map(({ bytes }) => bytes),
        Stream.decodeText(),
        Stream.mkString
      )
      assert.match(yield* output, /^00?22\n700\n$/)
    })
  )
})
