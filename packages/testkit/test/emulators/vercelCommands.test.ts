/** Commands and files of Vercel's emulator, tested with Vercel's own client. */
import { Step } from "@castellan/testkit/Program.ts"
import { assert, describe } from "@effect/vitest"
import { type Command, StreamError } from "@vercel/sandbox"
import { execFile } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Writable } from "node:stream"
import { promisify } from "node:util"
import { refusal, steps, tested, timed } from "./vercelClient.ts"

const print = (text: string) => Step.Print({ text, to: "stdout" })
const sleep = Step.Sleep({ millis: 20_000 })

const logsOf = async (command: Command) => {
  const all: Array<string> = []
  for await (const { data, stream } of command.logs()) all.push(`${stream} ${data}`)
  return all
}

/** Calls back at the first chunk. */
const sinkOf = (first: () => void) =>
  new Writable({
    write: (_piece, _encoding, done) => {
      first()
      done()
    }
  })

const failure = async (call: Promise<unknown>): Promise<unknown> => {
  try {
    await call
  } catch (error) {
    return error
  }
  throw new Error("It did not fail")
}

describe("Commands of Vercel's emulator", () => {
  tested("run with their directory, arguments and variables on top of the sandbox's", async (vercel) => {
    const sandbox = await vercel.create({ env: { A: "sandbox", B: "sandbox" } })
    await sandbox.writeFiles([{ path: "dir/file", content: "" }])
    const variables = [Step.PrintVariable({ name: "A" }), print(" "), Step.PrintVariable({ name: "B" }), print(" ")]
    const command = steps(...variables, Step.PrintDirectory(), Step.Exit({ code: 3 }))
    const done = await sandbox.runCommand({ ...command, cwd: "dir", env: { A: "command" } })
    assert.deepStrictEqual([done.exitCode, await done.stdout()], [3, "command sandbox /home/user/dir"])
    assert.strictEqual(done.cwd, "/home/user/dir")
    assert.isAtLeast((await done.wait()).durationMs ?? -1, 0)
  })

  tested("keep their output unchanged in both streams", async (vercel) => {
    const sandbox = await vercel.create()
    const text = 'größer 日本 🦀 \u0000 "quoted"\n'.repeat(500)
    const done = await sandbox.runCommand(steps(print(text), Step.Print({ text: "err", to: "stderr" })))
    assert.strictEqual(await done.stdout(), text)
    assert.strictEqual(await done.stderr(), "err")
  })

  timed("can be followed while they run, and waited for", async (vercel, pass) => {
    const sandbox = await vercel.create()
    const printed = [print("first"), sleep, print("last"), Step.Exit({ code: 4 })]
    const command = await sandbox.runCommand({ ...steps(...printed), detached: true })
    assert.isNull(command.exitCode)
    const logs = command.logs()
    assert.deepStrictEqual((await logs.next()).value, { stream: "stdout", data: "first" })
    const waited = (await sandbox.getCommand(command.cmdId)).wait()
    await pass("20 seconds")
    assert.deepStrictEqual((await logs.next()).value, { stream: "stdout", data: "last" })
    assert.isTrue((await logs.next()).done)
    assert.strictEqual((await waited).exitCode, 4)
    assert.deepStrictEqual(await logsOf(await sandbox.getCommand(command.cmdId)), ["stdout firstlast"])
  })

  timed("end by a signal, and at their timeout", async (vercel, pass) => {
    const sandbox = await vercel.create()
    const codeOf = async (signal: "SIGINT" | "SIGTERM" | "SIGKILL") => {
      const command = await sandbox.runCommand({ ...steps(sleep), detached: true })
      await command.kill(signal)
      return (await command.wait()).exitCode
    }
    assert.deepStrictEqual([await codeOf("SIGINT"), await codeOf("SIGTERM"), await codeOf("SIGKILL")], [130, 143, 137])
    const late = await sandbox.runCommand({ ...steps(sleep), detached: true, timeoutMs: 5000 })
    const waited = late.wait()
    await pass("5 seconds")
    assert.strictEqual((await waited).exitCode, 137)
    const over = await sandbox.runCommand(steps(Step.Exit({ code: 5 })))
    await over.kill()
    assert.strictEqual((await sandbox.getCommand(over.cmdId)).exitCode, 5)
    assert.deepStrictEqual(await refusal(late.kill("SIGSTOP")), [400, "bad_request"])
  })

  tested("are refused if they are shell command lines or unknown", async (vercel) => {
    const sandbox = await vercel.create()
    assert.deepStrictEqual(await refusal(sandbox.runCommand("echo hello")), [400, "bad_request"])
    assert.deepStrictEqual(await refusal(sandbox.getCommand("cmd_none")), [404, "not_found"])
    assert.strictEqual((await sandbox.runCommand("nothing-of-that-name")).exitCode, 127)
  })

  tested("continue when the client that waits for them disconnects", async (vercel) => {
    const sandbox = await vercel.create()
    const controller = new AbortController()
    const append = Step.Append({ path: "file", text: "written" })
    const attached = sandbox.runCommand({
      ...steps(print("up"), Step.Sleep({ millis: 200 }), append),
      signal: controller.signal,
      stdout: sinkOf(() => controller.abort())
    })
    assert.strictEqual(((await failure(attached)) as Error).name, "AbortError")
    let bytes = null
    while (bytes === null) bytes = await sandbox.readFileToBuffer({ path: "file" })
    assert.strictEqual(bytes.toString(), "written")
  })

  timed("fail when their sandbox stops or times out", async (vercel, pass) => {
    const sandbox = await vercel.create({ timeout: 60_000 })
    /** Starts a command, waits for its first output, and returns how it fails. */
    const begun = async () => {
      let up = () => {}
      const isUp = new Promise<void>((resolve) => (up = resolve))
      const command = steps(print("up"), sleep, sleep, sleep, sleep)
      const failed = failure(sandbox.runCommand({ ...command, stdout: sinkOf(() => up()) }))
      await isUp
      return { failed }
    }
    const lost = await begun()
    await sandbox.stop()
    const error = (await lost.failed) as StreamError
    assert.instanceOf(error, StreamError)
    assert.strictEqual(error.code, "sandbox_stream_closed")
    const expired = await begun()
    await pass(60_000)
    assert.strictEqual(((await expired.failed) as StreamError).code, "sandbox_stream_closed")
    const detached = await sandbox.runCommand({ ...steps(sleep), detached: true })
    const waited = refusal(detached.wait())
    while (!vercel.requests.at(-1)!.path.includes("wait=true")) await pass(0)
    await sandbox.stop()
    assert.deepStrictEqual(await waited, [410, "sandbox_stopped"])
  })
})

/** A server of this host with one response for every request. */
const serving = async (bytes: Buffer, use: (url: string) => Promise<void>) => {
  const server = createServer((_, answer) => answer.end(bytes)).listen(0, "127.0.0.1")
  await once(server, "listening")
  await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`).finally(() => server.close())
}

describe("Files of Vercel's emulator", () => {
  tested("are read as they were written, with any bytes, names and sizes", async (vercel) => {
    const sandbox = await vercel.create()
    const large = randomBytes(300_000)
    const long = `${"long/".repeat(40)}größe`
    await sandbox.writeFiles([
      { path: "relative", content: "1" },
      { path: "/tmp/absolute", content: "2" },
      { path: "empty", content: "" },
      { path: long, content: "3" },
      { path: "dir/large", content: large }
    ])
    const read = async (path: string) => (await sandbox.readFileToBuffer({ path }))?.toString()
    assert.deepStrictEqual(
      [await read("/home/user/relative"), await read("../../tmp/absolute"), await read("empty"), await read(long)],
      ["1", "2", "", "3"]
    )
    assert.isTrue((await sandbox.readFileToBuffer({ path: "large", cwd: "dir" }))?.equals(large))
    assert.isNull(await sandbox.readFileToBuffer({ path: "nothing" }))
    assert.isNull(await sandbox.readFileToBuffer({ path: "dir" }))
  })

  tested("come from the archive or repository that a sandbox is created from", async (vercel) => {
    const directory = mkdtempSync(join(tmpdir(), "castellan-source-of-tests-"))
    try {
      const script = `git init -q repo && cd repo && echo first > file && git add . &&
        git -c user.name=a -c user.email=a@example.com commit -qm first && git tag one &&
        git -c user.name=a -c user.email=a@example.com commit -qam second --allow-empty && echo second > file &&
        git -c user.name=a -c user.email=a@example.com commit -qam third && tar -czf - file`
      const { stdout } = await promisify(execFile)("sh", ["-c", script], { cwd: directory, encoding: "buffer" })
      const url = `file://${directory}/repo`
      const last = await vercel.create({ source: { type: "git", url } })
      assert.strictEqual((await last.readFileToBuffer({ path: "repo/file" }))?.toString(), "second\n")
      const first = await vercel.create({ source: { type: "git", url, revision: "one" } })
      assert.strictEqual((await first.readFileToBuffer({ path: "repo/file" }))?.toString(), "first\n")
      await serving(stdout, async (url) => {
        const unpacked = await vercel.create({ source: { type: "tarball", url } })
        assert.strictEqual((await unpacked.readFileToBuffer({ path: "file" }))?.toString(), "second\n")
      })
      const none = vercel.create({ name: "none", source: { type: "git", url: `file://${directory}/none` } })
      assert.deepStrictEqual(await refusal(none), [400, "bad_request"])
      assert.strictEqual((await vercel.create({ name: "none" })).status, "running")
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  tested("are refused at a path where no file can exist", async (vercel) => {
    const sandbox = await vercel.create()
    await sandbox.writeFiles([{ path: "file", content: "" }])
    assert.deepStrictEqual(await refusal(sandbox.writeFiles([{ path: "x".repeat(300), content: "" }])), [
      400,
      "bad_request"
    ])
    assert.deepStrictEqual(await refusal(sandbox.writeFiles([{ path: "file/below", content: "" }])), [404, "not_found"])
  })
})
