import * as DirectoryLock from "@castellan/adapters/postgres/DirectoryLock.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as databases from "./databases.ts"

/** As in another container, where only the files are the same. */
const elsewhere = ["--user", "--map-root-user", "--net", "--pid", "--fork"]
const canBeElsewhere = spawnSync("unshare", [...elsewhere, "true"]).status === 0

const taker = `
  import { take } from ${JSON.stringify(fileURLToPath(import.meta.resolve("@castellan/adapters/postgres/DirectoryLock.ts")))}
  console.log((await take(process.argv[1])) === undefined ? "refused" : "taken")`
const takeIn = (command: string, args: ReadonlyArray<string>, directory: string) =>
  spawnSync(command, [...args, "--input-type=module-typescript", "--eval", taker, directory], { encoding: "utf8" })

describe("The lock of a directory", () => {
  it.live("admits one holder, also within one process, and is free again after its release", () =>
    Effect.gen(function* () {
      const directory = yield* databases.temporaryDirectory
      const letGo = yield* Effect.promise(() => DirectoryLock.take(directory))
      assert.isDefined(letGo)
      assert.isUndefined(yield* Effect.promise(() => DirectoryLock.take(directory)))
      assert.strictEqual(takeIn(process.execPath, [], directory).stdout, "refused\n")
      letGo!()
      assert.strictEqual(takeIn(process.execPath, [], directory).stdout, "taken\n")
    }).pipe(Effect.scoped)
  )

  it.live.skipIf(!canBeElsewhere)("admits one container", () =>
    Effect.gen(function* () {
      const directory = yield* databases.temporaryDirectory
      const letGo = yield* Effect.promise(() => DirectoryLock.take(directory))
      const { stdout } = takeIn("unshare", [...elsewhere, process.execPath], directory)
      assert.strictEqual(stdout, "refused\n")
      letGo!()
    }).pipe(Effect.scoped)
  )
})
