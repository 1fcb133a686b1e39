/** Faults of Vercel's emulator, as Vercel's own client sees them. */
import { Step } from "@castellan/testkit/Program.ts"
import { assert, describe } from "@effect/vitest"
import { Sandbox, StreamError } from "@vercel/sandbox"
import { type Client, refusal, steps, tested, timed } from "./vercelClient.ts"

const print = (text: string) => Step.Print({ text, to: "stdout" })
const command = { method: "POST", path: /\/cmd\?/ }

const failure = async (call: Promise<unknown>): Promise<Error> => {
  try {
    await call
  } catch (error) {
    return error as Error
  }
  throw new Error("It did not fail")
}

const countOf = ({ requests }: Client, method: string, path: RegExp) =>
  requests.filter((one) => one.method === method && path.test(one.path)).length

// Concurrent, since the client spends most of the time waiting for its retries.
describe.concurrent("Vercel's emulator with a planned fault", () => {
  tested("handles a request and drops the response, so that the client repeats it", async (vercel) => {
    vercel.faults.plan({ kind: "droppedAfter" }, { method: "POST", path: /^\/v3\/sandboxes\?/ })
    assert.deepStrictEqual(await refusal(vercel.create({ name: "one" })), [400, "bad_request"])
    const sandbox = await Sandbox.get({ ...vercel.at, name: "one" })
    vercel.faults.plan({ kind: "droppedAfter" }, command)
    await sandbox.runCommand(steps(Step.Append({ path: "file", text: "x" })))
    assert.strictEqual((await sandbox.readFileToBuffer({ path: "file" }))?.toString(), "xx")
  })

  tested("drops the connection before it handles the request", async (vercel) => {
    vercel.faults.plan({ kind: "droppedBefore" }, { method: "POST" })
    assert.strictEqual((await vercel.create({ name: "one" })).status, "running")
    assert.strictEqual(countOf(vercel, "POST", /^\/v3\/sandboxes\?/), 2)
  })

  tested("resets a stream in the middle, or ends it too early", async (vercel) => {
    const sandbox = await vercel.create()
    vercel.faults.plan({ kind: "reset", afterBytes: 300 }, command)
    assert.strictEqual((await failure(sandbox.runCommand(steps(print("x".repeat(1000)))))).message, "terminated")
    vercel.faults.plan({ kind: "reset", afterBytes: 0 }, command)
    assert.strictEqual((await failure(sandbox.runCommand(steps(print("x"))))).message, "terminated")
    vercel.faults.plan({ kind: "endedEarly", afterLines: 2 }, command)
    const ended = await failure(sandbox.runCommand(steps(print("x"))))
    assert.deepStrictEqual([ended.name, (ended as StreamError).code], ["StreamError", "stream_ended_early"])
  })

  timed("closes the connection of a stream after a while", async (vercel, pass) => {
    const sandbox = await vercel.create()
    vercel.faults.plan({ kind: "cutOff", afterMs: 5000 }, command)
    const failed = failure(sandbox.runCommand(steps(Step.Sleep({ millis: 20_000 }))))
    while (countOf(vercel, "POST", /\/cmd\?/) === 0 || vercel.requests.at(-1)!.status === null) await pass(0)
    await pass(5000)
    assert.strictEqual((await failed).message, "terminated")
  })

  tested("sends bodies byte by byte, which the client reassembles", async (vercel) => {
    const sandbox = await vercel.create()
    vercel.faults.plan({ kind: "oneByteChunks" }, { times: 10 })
    const done = await sandbox.runCommand("echo", ["größe 日本 🦀"])
    assert.deepStrictEqual([done.exitCode, await done.stdout()], [0, "größe 日本 🦀\n"])
    await sandbox.writeFiles([{ path: "file", content: "größe" }])
    assert.strictEqual((await sandbox.readFileToBuffer({ path: "file" }))?.toString(), "größe")
  })

  tested(
    "sends characters in two pieces, which this client garbles, if lines need not be ASCII",
    async (vercel) => {
      const sandbox = await vercel.create()
      vercel.faults.plan({ kind: "oneByteChunks" }, command)
      assert.include(await (await sandbox.runCommand("echo", ["größe"])).stdout(), "\ufffd")
    },
    { ascii: false }
  )

  tested("refuses a request by its rate limit, with the time to retry after", async (vercel) => {
    vercel.faults.plan({ kind: "rateLimited", retryAfterSeconds: 0 }, { times: 2 })
    assert.strictEqual((await vercel.create()).status, "running")
    vercel.faults.plan({ kind: "rateLimited", retryAfterSeconds: 60 })
    assert.deepStrictEqual(await refusal(vercel.create()), [429, "rate_limited"])
  })

  tested("fails some requests with a server error", async (vercel) => {
    vercel.faults.plan({ kind: "status", status: 502 }, { times: 3 })
    assert.deepStrictEqual(await refusal(vercel.create({ name: "one" })), [502, "internal_server_error"])
    vercel.faults.plan({ kind: "status", status: 503, code: "service_unavailable" }, { times: 99 })
    vercel.faults.clear()
    assert.strictEqual((await vercel.create({ name: "one" })).status, "running")
  })

  timed("delays the first command of a session", async (vercel, pass) => {
    const sandbox = await vercel.create()
    vercel.faults.plan({ kind: "slowFirstCommand", ms: 6000 }, { times: 5 })
    let done = false
    const first = sandbox.runCommand(steps(print("first"))).then((command) => {
      done = true
      return command.stdout()
    })
    while (countOf(vercel, "POST", /\/cmd\?/) === 0) await pass(0)
    await pass(5000)
    assert.isFalse(done)
    await pass(1000)
    assert.strictEqual(await first, "first")
    assert.strictEqual(await (await sandbox.runCommand(steps(print("second")))).stdout(), "second")
  })

  timed("times a session out during a command", async (vercel, pass) => {
    const sandbox = await vercel.create()
    vercel.faults.plan({ kind: "expires", afterMs: 1000 })
    const failed = failure(sandbox.runCommand(steps(Step.Sleep({ millis: 20_000 }))))
    while (countOf(vercel, "POST", /\/cmd\?/) === 0 || vercel.requests.at(-1)!.status === null) await pass(0)
    await pass(1000)
    assert.strictEqual(((await failed) as StreamError).code, "sandbox_stream_closed")
    assert.strictEqual((await Sandbox.get({ ...vercel.at, name: sandbox.name })).status, "stopped")
  })

  timed("takes long to stop, and refuses requests and delays resumes until then", async (vercel, pass) => {
    const sandbox = await vercel.create({ name: "one" })
    for (const [end, code] of [
      [() => sandbox.stop(), "sandbox_stopping"],
      [() => sandbox.snapshot(), "sandbox_snapshotting"]
    ] as const) {
      const session = sandbox.currentSession()
      vercel.faults.plan({ kind: "slowStop", ms: 5000 })
      const ended = end()
      while (!/\/(stop|snapshot)\?/.test(vercel.requests.at(-1)!.path)) await pass(0)
      await pass(4000)
      assert.deepStrictEqual(await refusal(session.runCommand("true")), [422, code])
      const woken = Sandbox.get({ ...vercel.at, name: "one", resume: true })
      const seen = await Sandbox.get({ ...vercel.at, name: "one", resume: false })
      assert.strictEqual(`sandbox_${seen.status}`, code)
      await pass(1000)
      await ended
      assert.notStrictEqual((await woken).currentSession().sessionId, session.sessionId)
      await sandbox.runCommand("true")
    }
  })

  tested("reports that the snapshot to boot from does not exist", async (vercel) => {
    const sandbox = await vercel.create()
    await sandbox.stop()
    vercel.faults.plan({ kind: "snapshotNotFound" }, { method: "GET", path: /resume=true/ })
    assert.deepStrictEqual(await refusal(sandbox.runCommand("true")), [410, "snapshot_not_found"])
    assert.strictEqual((await sandbox.runCommand("true")).exitCode, 0)
  })

  tested("reports that the session is stopping", async (vercel) => {
    const sandbox = await vercel.create()
    for (const kind of ["sandboxStopping", "sandboxSnapshotting", "sandboxStopped"] as const) {
      vercel.faults.plan({ kind }, command)
      assert.strictEqual((await sandbox.runCommand("true")).exitCode, 0)
      vercel.faults.plan({ kind }, command)
      const status = kind === "sandboxStopped" ? 410 : 422
      const code = kind.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`)
      assert.deepStrictEqual(await refusal(sandbox.currentSession().runCommand("true")), [status, code])
    }
    assert.strictEqual(countOf(vercel, "GET", /resume=true/), 3)
  })
})
