import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { castellan } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

layer(WebApi.layer)("Web apps by the command line", (it) => {
  it.effect("creates, shows, adds packages to, diagnoses and deletes a web app", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      const said = (...args: ReadonlyArray<string>) => castellan(["apps", ...args], { key })
      const before = yield* said("status")
      assert.deepStrictEqual([before.exit, before.stderr], [4, "castellan: No active sandbox found\n"])

      const created = yield* said("create")
      const [, id] = /^app  (app-\w+)\nurl  http:\/\/5173-app-\w+\.localhost\S*\n$/.exec(created.stdout) ?? []
      assert.isString(id, created.stdout)
      assert.match((yield* said("status")).stdout, new RegExp(`^app      ${id}\nrunning  yes\nurl      http`))
      assert.include((yield* said("files", "--app", id!)).stdout, "src/App.tsx\n")

      const installed = yield* said("install", "clsx@2", "@a/b")
      assert.strictEqual(installed.stdout, "clsx  2\n@a/b  1.0.0\n")
      const unknown = yield* said("install", "no-such-package")
      assert.match(unknown.stderr, /^castellan: Package no-such-package is not in the registry: .*404 Not Found/)
      const wrong = yield* said("install", "--", "-g")
      assert.deepStrictEqual([wrong.exit, wrong.stderr], [1, "castellan: Invalid package name\n"])

      assert.strictEqual((yield* said("diagnose")).exit, 0)
      yield* ask("POST", "/api/apply/stream", {
        key,
        body: { files: [{ path: "src/App.tsx", content: 'import "./gone.ts"\n' }] }
      })
      const broken = yield* said("diagnose")
      assert.strictEqual(broken.exit, 1)
      assert.match(broken.stdout, /^CHECK +OK +TOOK\n(.*\n)*missing imports +no/)
      assert.include(broken.stdout, "./gone.ts")

      assert.deepStrictEqual((yield* said("end")).stdout, `${id} is deleted\n`)
      assert.strictEqual((yield* said("end")).exit, 4)
      assert.strictEqual((yield* said("end", "--all")).exit, 0)
    })
  )
})
