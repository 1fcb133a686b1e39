/** Runs Vercel's own client against the emulator, with real commands in local sandboxes. */
import * as VercelEmulator from "@castellan/testkit/emulators/vercel/VercelEmulator.ts"
import { assert, it } from "@effect/vitest"
import { Sandbox } from "@vercel/sandbox"
import { Effect, Layer } from "effect"
import { randomBytes } from "node:crypto"
import { localProvider } from "../local/temporary.ts"

type At = Pick<VercelEmulator.Emulator, "fetch"> & { token: string; teamId: string; projectId: string }

const layer = VercelEmulator.layer().pipe(Layer.provide(localProvider()))

it.layer(layer, { timeout: "60 seconds", excludeTestServices: true })(
  "Vercel's emulator, over local sandboxes",
  (it) => {
    const tested = (name: string, test: (at: At) => Promise<void>) =>
      it.effect(name, () =>
        Effect.flatMap(VercelEmulator.VercelEmulator, ({ fetch }) =>
          Effect.promise(() => test({ fetch, token: "token-for-tests", teamId: "team_1", projectId: "prj_1" }))
        )
      )

    tested("runs commands and gives their output as it comes", async (at) => {
      const sandbox = await Sandbox.create(at)
      const script = 'pwd; echo err >&2; printf %s "$A"; exit 3'
      const done = await sandbox.runCommand({ cmd: "sh", args: ["-c", script], env: { A: "größe" } })
      assert.deepStrictEqual(
        [done.exitCode, await done.stdout(), await done.stderr()],
        [3, `${sandbox.cwd}\ngröße`, "err\n"]
      )
      const follow = "echo one; until [ -e go ]; do sleep 0.05; done; echo two"
      const command = await sandbox.runCommand({ cmd: "sh", args: ["-c", follow], detached: true })
      const logs = command.logs()
      assert.strictEqual((await logs.next()).value?.data, "one\n")
      await sandbox.writeFiles([{ path: "go", content: "" }])
      assert.strictEqual((await logs.next()).value?.data, "two\n")
      assert.strictEqual((await command.wait()).exitCode, 0)
      const sleeping = await sandbox.runCommand({ cmd: "sleep", args: ["60"], detached: true })
      await sleeping.kill("SIGTERM")
      assert.strictEqual((await sleeping.wait()).exitCode, 143)
      assert.strictEqual((await sandbox.runCommand({ cmd: "sleep", args: ["60"], timeoutMs: 200 })).exitCode, 137)
      const many = await sandbox.runCommand("node", ["-e", 'process.stdout.write("é日🦀".repeat(300000))'])
      assert.isTrue((await many.stdout()) === "é日🦀".repeat(300_000))
      await sandbox.delete()
    })

    tested("has files that programs see, with their modes", async (at) => {
      const sandbox = await Sandbox.create(at)
      const large = randomBytes(5 * 1024 * 1024)
      await sandbox.writeFiles([
        { path: "bin/program", content: "#!/bin/sh\necho ran", mode: 0o755 },
        { path: "/tmp/large", content: large }
      ])
      assert.strictEqual(await (await sandbox.runCommand("./bin/program")).stdout(), "ran\n")
      assert.isTrue((await sandbox.readFileToBuffer({ path: "/tmp/large" }))?.equals(large))
      await sandbox.mkDir("made")
      assert.isTrue((await sandbox.fs.stat("made")).isDirectory())
      assert.deepStrictEqual((await sandbox.fs.readdir(".")).toSorted(), ["bin", "made"])
      assert.strictEqual((await sandbox.mkDir("not/made").catch((error) => error.response)).status, 400)
      assert.isNull(await sandbox.readFileToBuffer({ path: "made" }))
      await sandbox.delete()
    })

    tested("stops, wakes, and boots from snapshots with real files", async (at) => {
      const sandbox = await Sandbox.create({ ...at, timeout: 60_000 })
      await sandbox.runCommand("sh", ["-c", "echo kept > file; sleep 60 &"])
      await sandbox.stop()
      assert.strictEqual((await sandbox.readFileToBuffer({ path: "file" }))?.toString(), "kept\n")
      const { snapshotId } = await sandbox.snapshot()
      const other = await Sandbox.create({ ...at, source: { type: "snapshot", snapshotId } })
      assert.strictEqual(await (await other.runCommand("cat", ["file"])).stdout(), "kept\n")
      await other.delete()
      await sandbox.delete({ deleteOrphanSnapshots: true })
    })

    tested("stops by itself when its time is up, in the middle of a command", async (at) => {
      const sandbox = await Sandbox.create({ ...at, timeout: 1500 })
      const error = await sandbox.runCommand("sleep", ["60"]).catch((error: unknown) => error)
      assert.deepInclude(error as object, { name: "StreamError", code: "sandbox_stream_closed" })
      const again = await Sandbox.get({ ...at, name: sandbox.name, resume: true })
      assert.strictEqual(again.status, "running")
      assert.notStrictEqual(again.currentSession().sessionId, sandbox.currentSession().sessionId)
      await sandbox.delete()
    })

    tested("is reached at the ports it has, by its routes and by its domains", async (at) => {
      const sandbox = await Sandbox.create({ ...at, ports: [8080] })
      const server = 'require("node:http").createServer((_, answer) => answer.end("served")).listen(8080)'
      await sandbox.runCommand({ cmd: "node", args: ["-e", server], detached: true })
      let answer = await fetch(sandbox.routes[0]!.url)
      while (answer.status === 502) answer = await fetch(sandbox.routes[0]!.url)
      assert.strictEqual(await answer.text(), "served")
      assert.strictEqual(await (await at.fetch(sandbox.domain(8080))).text(), "served")
      await sandbox.delete()
    })
  }
)
