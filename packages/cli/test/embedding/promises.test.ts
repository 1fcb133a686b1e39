import { SandboxNotFound } from "@castellan/domain/account/SandboxOperations.ts"
import { AccountForbidden } from "@castellan/domain/identity/AccountScope.ts"
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { command, make, type Promises } from "../../src/embedding/promises.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted } from "effect"

const secret = Redacted.make(new Uint8Array(32).fill(7))

const using = async (use: (castellan: Promises) => Promise<void>) => {
  const castellan = await make(World.layer, { secret })
  try {
    await use(castellan)
  } finally {
    await castellan.dispose()
  }
}

const thrownBy = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise
  } catch (thrown) {
    return thrown
  }
  assert.fail("nothing was thrown")
}

const textOf = async (bytes: AsyncIterable<Uint8Array>) => {
  let text = ""
  for await (const piece of bytes) text += new TextDecoder().decode(piece)
  return text
}

describe("The promise API for embedding", () => {
  it("creates a sandbox, runs a command in it and returns the output", () =>
    using(async (castellan) => {
      const { id } = await castellan.createAccount({ name: "Ada" })
      const ada = await castellan.as(id)
      const { run: none, sandbox } = await ada.sandboxes.create({})
      assert.deepStrictEqual([sandbox.status, none], ["running", undefined])

      const run = await ada.sandboxes.run(sandbox.name, command("echo", ["hello"]))
      const told: Array<string> = []
      for await (const event of ada.runs.log(run.id, OutputPosition.start)) {
        told.push(event._tag === "Printed" ? event.output.text : event.run.status)
      }
      assert.deepStrictEqual(told, ["hello\n", "COMPLETED"])
      assert.strictEqual((await ada.runs.awaitEnd(run.id, Duration.seconds(5))).status, "COMPLETED")
    }))

  it("accepts options that are given or left out, and returns undefined for a missing sandbox", () =>
    using(async (castellan) => {
      const { id } = await castellan.createAccount()
      const ada = await castellan.as(id)
      const work = { _tag: "Command", command: command("true").command } as const
      const first = await ada.sandboxes.create({ work, nonce: "0123456789abcdefghij" })
      const again = await ada.sandboxes.create({ work, nonce: "0123456789abcdefghij" })
      assert.strictEqual(typeof first.run, "string")
      assert.deepStrictEqual(again, first)

      const fork = await ada.sandboxes.fork(first.sandbox.name)
      assert.notStrictEqual(fork.name, first.sandbox.name)
      assert.strictEqual(await ada.sandboxes.find(SandboxName.make("sbx_nobody")), undefined)
    }))

  it("uploads and downloads files as whole byte arrays or as streams", () =>
    using(async (castellan) => {
      const ada = await castellan.as((await castellan.createAccount()).id)
      const { sandbox } = await ada.sandboxes.create({})
      const path = SandboxPath.make("notes.txt")
      assert.strictEqual(await ada.sandboxes.writeFile(sandbox.name, path, new TextEncoder().encode("water")), 5)
      assert.strictEqual(await textOf(ada.sandboxes.readFile(sandbox.name, path)), "water")

      const pieces = async function* () {
        yield new TextEncoder().encode("half of ")
        yield new TextEncoder().encode("them")
      }
      await ada.sandboxes.writeFile(sandbox.name, path, pieces())
      assert.strictEqual(await textOf(ada.sandboxes.readFile(sandbox.name, path)), "half of them")
      const { files } = await ada.sandboxes.listFiles(sandbox.name, SandboxPath.make("."), { depth: 1, limit: 10 })
      assert.deepStrictEqual(
        files.map((file) => [file.path, file.size]),
        [["notes.txt", 12]]
      )
    }))

  it("throws each failure as an instance of its own error class", () =>
    using(async (castellan) => {
      const ada = await castellan.as((await castellan.createAccount()).id)
      const thrown = await thrownBy(ada.sandboxes.get(SandboxName.make("sbx_nobody")))
      assert.instanceOf(thrown, SandboxNotFound)
      assert.instanceOf(thrown, Error)
      assert.strictEqual((thrown as SandboxNotFound).name, "sbx_nobody")
    }))

  it("isolates accounts, and lets a member act for its organization", () =>
    using(async (castellan) => {
      const ada = await castellan.createAccount()
      const bob = await castellan.createAccount()
      const { sandbox } = await (await castellan.as(ada.id)).sandboxes.create({})
      assert.instanceOf(await thrownBy((await castellan.as(bob.id)).sandboxes.get(sandbox.name)), SandboxNotFound)
      assert.instanceOf(await thrownBy(castellan.as(bob.id, ada.id)), AccountForbidden)
      assert.instanceOf(await thrownBy(castellan.as("4c2c5b53-0b0e-4f5c-8f0c-5f2f4f8a9c11")), AccountForbidden)

      const organization = await (await castellan.as(ada.id)).organizations.create({ name: "Gardeners" })
      const garden = await castellan.as(ada.id, organization.id)
      await garden.sandboxes.create({})
      assert.strictEqual((await garden.sandboxes.list({ limit: 10, cursor: null })).rows.length, 1)
      assert.deepStrictEqual(
        (await (await castellan.as(ada.id)).organizations.list()).map(({ organization }) => organization.name),
        ["Gardeners"]
      )
    }))

  it("refuses a removed member at its next call and in the middle of a log stream", () =>
    using(async (castellan) => {
      const [ada, bob] = [await castellan.createAccount(), await castellan.createAccount()]
      const { organizations } = await castellan.as(ada.id)
      const { id } = await organizations.create({ name: "Gardeners" })
      await organizations.invite(id, { account: bob.id, role: null })
      await (await castellan.as(bob.id)).organizations.accept(id)

      const garden = await castellan.as(bob.id, id)
      const { sandbox } = await garden.sandboxes.create({})
      const run = await garden.sandboxes.run(sandbox.name, command("sleep", ["600"]))
      const log = garden.runs.log(run.id, OutputPosition.start)[Symbol.asyncIterator]()
      const cut = thrownBy(Promise.resolve(log.next()))
      await organizations.remove(id, bob.id)
      assert.instanceOf(await cut, AccountForbidden)
      assert.instanceOf(await thrownBy(garden.sandboxes.get(sandbox.name)), AccountForbidden)
    }))

  it("opens, hibernates and reopens a session", () =>
    using(async (castellan) => {
      const ada = await castellan.as((await castellan.createAccount()).id)
      const session = await ada.sessions.create({ title: "water", repo: null, organization: null })
      const up = await ada.sessions.open(session.id, null)
      assert.strictEqual((await ada.sessions.hibernate(session.id)).stopped, true)
      assert.strictEqual((await ada.sessions.open(session.id, null)).session.id, up.session.id)
    }))

  it("issues API keys that the HTTP API accepts", () =>
    using(async (castellan) => {
      const ada = await castellan.as((await castellan.createAccount()).id)
      const { sandbox } = await ada.sandboxes.create({})
      const { secret: key } = await ada.keys.issue({ name: "phone", expiresAt: null })
      const headers = { "x-api-key": Redacted.value(key) }
      const answer = await castellan.handler(new Request("http://localhost/api/sandboxes", { headers }))
      const { sandboxes } = (await answer.json()) as { readonly sandboxes: ReadonlyArray<{ sandboxId: string }> }
      assert.deepStrictEqual(
        sandboxes.map(({ sandboxId }) => sandboxId),
        [sandbox.name]
      )
    }))

  it("rejects calls after it is disposed, and closes the resources of its ports", async () => {
    let closed = false
    const closing = Layer.effectDiscard(
      Effect.acquireRelease(Effect.void, () => Effect.sync(() => void (closed = true)))
    )
    const castellan = await make(Layer.merge(World.layer, closing), { secret })
    await castellan.dispose()
    assert.isTrue(closed)
  })

  it("reports why it could not start, and leaves no resource open", async () => {
    let closed = false
    const opened = Layer.effectDiscard(
      Effect.acquireRelease(Effect.void, () => Effect.sync(() => void (closed = true)))
    )
    const failing = Layer.effect(SandboxProvider, Effect.fail(new Error("no provider today")))
    const thrown = await thrownBy(make(World.layer.pipe(Layer.merge(opened), Layer.merge(failing)), { secret }))
    assert.include(String(thrown), "no provider today")
    assert.isTrue(closed)
  })
})
