import type { RunningSandbox } from "../../../src/local/isolation/Isolation.ts"
import { measureDisk } from "../../../src/local/sandbox/Watchdog.ts"
import { makeLayout } from "../../../src/local/storage/Layout.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { linkSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { temporaryDirectory } from "../temporary.ts"

const kibibyte = 1024

describe("The disk usage of a sandbox", () => {
  it.live("counts each file once, at least 4 KiB for an inode, and nothing of another sandbox", () =>
    Effect.gen(function* () {
      const layout = makeLayout(yield* temporaryDirectory)
      const sandboxes = ["linked", "inodes", "empty"].map((name): RunningSandbox => {
        const files = layout.sandbox(SandboxName.make(name))
        for (const path of [files.upper, files.commands]) mkdirSync(path, { recursive: true })
        return { record: { name } as RunningSandbox["record"], files, init: { pid: 1, parent: 0, startTime: "0" } }
      })
      const [linked, inodes] = sandboxes.map(({ files }) => files)
      writeFileSync(join(linked!.upper, "file"), Buffer.alloc(1024 * kibibyte, 1))
      linkSync(join(linked!.upper, "file"), join(linked!.upper, "link"))
      writeFileSync(join(linked!.commands, "output\n9 9"), Buffer.alloc(512 * kibibyte, 1))
      for (let index = 0; index < 100; index++) writeFileSync(join(inodes!.upper, String(index)), "")
      const sizes = yield* measureDisk(layout, { kind: "none" }, sandboxes)
      const kibibytes = sizes.map((size) => size / kibibyte)
      const expected = [1536, 400, 0]
      for (const [index, size] of kibibytes.entries())
        assert.closeTo(size, expected[index]!, 64, sandboxes[index]!.record.name)
    }).pipe(Effect.scoped)
  )
})
