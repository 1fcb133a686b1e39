import { asSteps, Step } from "@castellan/testkit/Program.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { castellan } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

layer(WebApi.layer)("castellan sandbox", (it) => {
  const join = Effect.flatMap(WebApi, (api) => api.join())

  const made = Effect.fnUntraced(function* (key: string) {
    const said = yield* castellan(["sandboxes", "create", "--json"], { key })
    return JSON.parse(said.stdout).sandboxes[0].sandboxId as string
  })

  it.effect("runs commands one after the other, each with its own exit code", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const id = yield* made(key)
      const append = asSteps(Step.Append({ path: "notes.txt", text: "kept" }), Step.Exit({ code: 4 }))
      const first = yield* castellan(["sandboxes", "run", id, "--", append.command, ...append.args], { key })
      assert.deepStrictEqual([first.exit, first.stdout, first.stderr], [4, "", ""])
      const show = asSteps(Step.PrintFile({ path: "notes.txt" }))
      const second = yield* castellan(["sandboxes", "run", id, "--", show.command, ...show.args], { key })
      assert.deepStrictEqual([second.exit, second.stdout], [0, "kept"])
    })
  )

  it.effect("writes, lists and reads files", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const id = yield* made(key)
      const text = "名前, and no newline at the end"
      const size = Buffer.byteLength(text)
      const written = yield* castellan(["sandboxes", "write", id, "src/deep/a b.txt"], { key, stdin: text })
      assert.deepStrictEqual([written.exit, written.stdout], [0, `src/deep/a b.txt, ${size} bytes\n`])
      const read = yield* castellan(["sandboxes", "read", id, "src/deep/a b.txt"], { key })
      assert.deepStrictEqual([read.exit, read.stdout, read.stderr], [0, text, ""])
      const flat = yield* castellan(["sandboxes", "files", id, "src"], { key })
      assert.match(flat.stdout, /^directory +0755 +\d+ +\S+ +deep$/m)
      assert.notInclude(flat.stdout, "a b.txt")
      const deep = yield* castellan(["sandboxes", "files", id, "src", "-r"], { key })
      assert.match(deep.stdout, new RegExp(`^file +0644 +${size} +\\S+ +deep/a b\\.txt$`, "m"))
      yield* castellan(["sandboxes", "write", id, "empty"], { key, stdin: "" })
      const empty = yield* castellan(["sandboxes", "read", id, "empty"], { key })
      assert.deepStrictEqual([empty.exit, empty.stdout, empty.stderr], [0, "", ""])
      const missing = yield* castellan(["sandboxes", "read", id, "nowhere"], { key })
      assert.deepStrictEqual([missing.exit, missing.stderr], [4, "castellan: File not found\n"])
    })
  )

  it.effect("snapshots, forks, extends and stops a sandbox", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const id = yield* made(key)
      yield* castellan(["sandboxes", "write", id, "notes.txt"], { key, stdin: "both have this" })
      const kept = yield* castellan(["sandboxes", "snapshot", id], { key })
      assert.match(kept.stdout, /^snapshot +\S+\nexpires +\d{4}-\S+\n$/)
      const forked = yield* castellan(["sandboxes", "fork", id], { key })
      const [, other] = /^sandbox +(sbx_\w+)\nstatus +running\n/.exec(forked.stdout)!
      assert.notStrictEqual(other, id)
      const read = yield* castellan(["sandboxes", "read", other!, "notes.txt"], { key })
      assert.strictEqual(read.stdout, "both have this")
      const extended = yield* castellan(["sandboxes", "extend", other!, "1h"], { key })
      assert.match(extended.stdout, /^time left +1 h 30 min$/m)
      const stopped = yield* castellan(["sandboxes", "stop", other!], { key })
      assert.deepStrictEqual([stopped.exit, stopped.stdout], [0, `${other} is stopped\n`])
      const shown = yield* castellan(["sandboxes", "get", id], { key })
      assert.match(shown.stdout, new RegExp(`^sandbox +${id}\nstatus +running\n`))
    })
  )

  it.effect("refuses the sandbox of another account", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const stranger = yield* join
      const id = yield* made(key)
      const tries = [
        ["get"],
        ["run", "echo"],
        ["files"],
        ["read", "x"],
        ["snapshot"],
        ["fork"],
        ["extend", "1h"],
        ["stop"]
      ]
      for (const [verb, ...more] of tries) {
        const said = yield* castellan(["sandboxes", verb!, id, ...more], { key: stranger.key })
        assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [4, "", "castellan: Sandbox not found\n"], verb)
      }
    })
  )
})
