import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { FileRefused, SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, Stream } from "effect"
import { createSandbox, sh, withSandboxes } from "../sandboxes.ts"
import { localProvider } from "../temporary.ts"

const world = withSandboxes(localProvider())

const write = Effect.fnUntraced(function* (name: SandboxName, path: string, text = "x") {
  const provider = yield* SandboxProvider
  return yield* provider.writeFile(name, SandboxPath.make(path), Stream.make(new TextEncoder().encode(text)))
})

const read = Effect.fnUntraced(function* (name: SandboxName, path: string) {
  const provider = yield* SandboxProvider
  return yield* provider.readFile(name, SandboxPath.make(path)).pipe(Stream.decodeText(), Stream.mkString)
})

const list = Effect.fnUntraced(function* (name: SandboxName, path: string) {
  const provider = yield* SandboxProvider
  return (yield* provider.listFiles(name, SandboxPath.make(path), { depth: 1, limit: 1000 })).files
})

/** The reason of a refusal, or another error as it is. */
const refusal = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => (error instanceof FileRefused ? error.reason : error))

const forbidden = "The sandbox's user is not allowed to"
const readOnly = "It can't be changed"
const impossible = "No file can be made there"

layer(world, { excludeTestServices: true, timeout: "60 seconds" })("The files of a local sandbox", (it) => {
  it.effect("lists files with extreme times and sizes", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const { end, stderr } = yield* sh(
        name,
        `mkdir odd && cd odd && truncate -s 4T large && touch -d @1.123456789 exact && touch -d @-1.5 before
        touch -d @253402300800 late; touch -d @9223372036854775000 last; touch -d @-9223372036854775000 first; true`
      )
      assert.strictEqual(end.exitCode, 0, stderr)
      const files = new Map((yield* list(name, "odd")).map((file) => [file.path, file]))
      const at = (path: string) => files.get(path)!.modifiedAt.epochMilliseconds
      assert.strictEqual(at("exact"), 1123)
      assert.strictEqual(at("before"), -1500)
      assert.strictEqual(files.get("large")!.size, 4 * 2 ** 40)
      for (const { modifiedAt } of files.values()) {
        assert.match(DateTime.formatIso(modifiedAt), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      }
    })
  )

  it.effect("refuses a write where the user may not write or no file can exist, with the reason", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      yield* sh(name, "mkdir closed; chmod 555 closed; mkfifo pipe; ln -s loop loop")
      const expected = {
        "/usr/bin/zz": readOnly,
        "/usr/zz/below": readOnly,
        "/proc/nope": impossible,
        "/proc/nope/below": impossible,
        "/proc/sys/kernel/core_pattern": impossible,
        "/dev/null": impossible,
        pipe: impossible,
        "loop/file": impossible,
        "closed/file": forbidden,
        "closed/deep/file": forbidden,
        "none/": "It is named like a directory",
        ["n".repeat(256)]: "Its name is too long"
      }
      for (const [path, reason] of Object.entries(expected)) {
        assert.deepStrictEqual(yield* refusal(write(name, path)), reason, path)
      }
      const leftovers = yield* sh(
        name,
        "find / -path /usr -prune -o -path /proc -prune -o -name '*.castellan-*' -print 2>/dev/null; test -c /dev/null && test -p pipe && echo ok"
      )
      assert.strictEqual(leftovers.stdout, "ok\n")
    }).pipe(Effect.scoped)
  )

  it.effect("refuses a read or a listing where the user may not read, with the reason", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      yield* sh(name, "echo x > secret; chmod 000 secret; mkdir -m 000 closed; mkdir -m 111 blind")
      assert.deepStrictEqual(yield* refusal(read(name, "secret")), forbidden)
      for (const path of ["closed", "blind"]) {
        assert.deepStrictEqual(yield* refusal(list(name, path)), forbidden, path)
      }
      assert.strictEqual((yield* Effect.flip(read(name, "closed/file")))._tag, "FileNotFound")
    }).pipe(Effect.scoped)
  )

  it.effect("refuses every file operation if the home directory can't be entered", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      yield* sh(name, "chmod 000 .")
      const reason = "The home directory can't be entered"
      assert.deepStrictEqual(yield* refusal(write(name, "file")), reason)
      assert.deepStrictEqual(yield* refusal(read(name, "file")), reason)
      assert.deepStrictEqual(yield* refusal(list(name, ".")), reason)
    }).pipe(Effect.scoped)
  )

  it.effect("reports a sandbox that fails during a write as unavailable", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      yield* sh(name, "(sleep 0.5; kill -9 -1) > /dev/null 2>&1 &")
      const provider = yield* SandboxProvider
      const slow = Stream.fromEffect(Effect.as(Effect.sleep("2 seconds"), new Uint8Array(1)))
      const failure = yield* Effect.flip(provider.writeFile(name, SandboxPath.make("slow"), slow))
      assert.strictEqual(failure._tag, "SandboxUnavailable")
    }).pipe(Effect.scoped)
  )

  it.effect("reads and writes files with unusual names", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      for (const path of ["-", "-n", "a\n/b", "a\\n", "..x", "/tmp/ x", "n".repeat(255)]) {
        assert.strictEqual(yield* write(name, path, path), path.length)
        assert.strictEqual(yield* read(name, path), path)
      }
    }).pipe(Effect.scoped)
  )
})
