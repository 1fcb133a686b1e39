import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Secret from "../../src/server/Secret.ts"

const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-secret-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

describe("The server's secret", () => {
  it.effect("is the same for servers that start at the same time, and the only file in its directory", () =>
    Effect.gen(function* () {
      const at = yield* directory
      for (let round = 0; round < 100; round++) {
        const data = join(at, `${round}`)
        const secrets = yield* Effect.promise(() =>
          Promise.all(Array.from({ length: 8 }, () => Secret.inDirectory(data)))
        )
        assert.strictEqual(new Set(secrets.map((secret) => Buffer.from(secret).toString("hex"))).size, 1)
        assert.deepStrictEqual(yield* Effect.promise(() => readdir(data)), ["secret"])
      }
    }).pipe(Effect.scoped)
  )

  it.effect("is refused if its file does not hold 32 bytes", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* Effect.promise(() => writeFile(join(at, "secret"), "short"))
      const refused = yield* Effect.flip(Effect.tryPromise(() => Secret.inDirectory(at)))
      assert.include(String(refused.cause), "does not hold 32 bytes")
    }).pipe(Effect.scoped)
  )
})
