/** Sandboxes, sessions and snapshots of Vercel's emulator, tested with Vercel's own client. */
import { Step } from "@castellan/testkit/Program.ts"
import { assert, describe } from "@effect/vitest"
import { Sandbox, Snapshot } from "@vercel/sandbox"
import { type Client, refusal, steps, tested, timed } from "./vercelClient.ts"

const day = 24 * 3_600_000

const fileOf = async (sandbox: Sandbox, path: string) => {
  const bytes = await sandbox.readFileToBuffer({ path })
  return bytes === null ? null : bytes.toString()
}

/** Whether the sandbox is stopped, without resuming it. */
const statusOf = async (sandbox: Sandbox, at: Client["at"]) =>
  (await Sandbox.get({ ...at, name: sandbox.name, resume: false })).status

describe("Vercel's emulator", () => {
  tested("creates a sandbox with Vercel's default settings", async (vercel) => {
    const sandbox = await vercel.create()
    assert.match(sandbox.name, /^[a-z]+-[a-z]+-[a-z]+-[A-Za-z0-9]{6}$/)
    assert.deepInclude(
      {
        status: sandbox.status,
        cwd: sandbox.cwd,
        persistent: sandbox.persistent,
        vcpus: sandbox.vcpus,
        memory: sandbox.memory,
        timeout: sandbox.timeout,
        region: sandbox.region,
        runtime: sandbox.runtime,
        policy: sandbox.networkPolicy,
        routes: sandbox.routes
      },
      {
        status: "running",
        cwd: "/home/user",
        persistent: true,
        vcpus: 2,
        memory: 4096,
        timeout: 300_000,
        region: "iad1",
        runtime: "node24",
        policy: "allow-all",
        routes: []
      }
    )
    assert.isNumber(sandbox.interactivePort)
    assert.isAbove(sandbox.expiresAt!.getTime(), Date.now() + 290_000)
  })

  tested("finds a sandbox by its name, in its own project only", async (vercel) => {
    const made = await vercel.create({ name: "one", tags: { of: "mine" }, timeout: 60_000 })
    const got = await Sandbox.get({ ...vercel.at, name: "one" })
    assert.deepStrictEqual([got.tags, got.timeout], [{ of: "mine" }, 60_000])
    assert.strictEqual(got.currentSession().sessionId, made.currentSession().sessionId)
    const elsewhere = { ...vercel.at, projectId: "prj_2" }
    assert.deepStrictEqual(await refusal(Sandbox.get({ ...elsewhere, name: "one" })), [404, "not_found"])
    const other = await Sandbox.create({ ...elsewhere, name: "one" })
    await other.writeFiles([{ path: "file", content: "of the other" }])
    assert.isNull(await fileOf(made, "file"))
    assert.deepStrictEqual(await refusal(vercel.create({ name: "one" })), [400, "bad_request"])
  })

  tested("getOrCreate creates a sandbox if none has the name or the existing one cannot be resumed", async (vercel) => {
    const made: Array<string> = []
    const ask = () =>
      Sandbox.getOrCreate({
        ...vercel.at,
        name: "one",
        resume: true,
        onCreate: async (sandbox) => void made.push(sandbox.name)
      })
    await ask()
    const again = await ask()
    assert.deepStrictEqual(made, ["one"])
    const { snapshot } = await again.stop()
    await (await Snapshot.get({ ...vercel.at, snapshotId: snapshot!.id })).delete()
    assert.deepStrictEqual(await refusal(Sandbox.get({ ...vercel.at, name: "one", resume: true })), [
      410,
      "snapshot_not_found"
    ])
    assert.strictEqual((await ask()).status, "running")
    assert.deepStrictEqual(made, ["one", "one"])
  })

  tested(
    "refuses settings that the plan or the API does not allow",
    async (vercel) => {
      const refused = async (params: Parameters<typeof vercel.create>[0]) =>
        assert.deepStrictEqual(await refusal(vercel.create(params)), [400, "bad_request"])
      await refused({ timeout: 46 * 60_000 })
      await refused({ resources: { vcpus: 3 } })
      await refused({ resources: { vcpus: 8 } })
      await refused({ ports: Array.from({ length: 16 }, (_, index) => 3000 + index) })
      await refused({ name: "not a name" })
      await refused({ name: "sessions" })
      await refused({ tags: { a: "", b: "", c: "", d: "", e: "", f: "" } })
      await refused({ region: "fra1", failoverRegions: ["fra1"] })
    },
    { plan: { maxTimeout: 45 * 60_000, maxVcpus: 4 } }
  )

  tested("lists sandboxes in order, by prefix and tag, in pages", async (vercel) => {
    for (const name of ["b-1", "a-2", "a-1", "c-1"]) await vercel.create({ name, tags: { first: name[0]! } })
    const names = async (params: object) =>
      (await (await Sandbox.list({ ...vercel.at, ...params })).toArray()).map(({ name }) => name)
    assert.deepStrictEqual(await names({ sortBy: "name", sortOrder: "asc" }), ["a-1", "a-2", "b-1", "c-1"])
    assert.deepStrictEqual(await names({ sortBy: "name", limit: 1 }), ["c-1", "b-1", "a-2", "a-1"])
    assert.deepStrictEqual(await names({ sortBy: "name", namePrefix: "a-" }), ["a-2", "a-1"])
    assert.deepStrictEqual(await names({ tags: { first: "b" } }), ["b-1"])
    assert.deepStrictEqual((await names({ limit: 2 })).toSorted(), ["a-1", "a-2", "b-1", "c-1"])
    assert.deepStrictEqual(await refusal(names({ namePrefix: "a" })), [400, "bad_request"])
    assert.deepStrictEqual(await refusal(names({ limit: 51 })), [400, "bad_request"])
    assert.deepStrictEqual(await refusal(names({ cursor: "none" })), [400, "bad_request"])
    const page = await Sandbox.list({ ...vercel.at, sortBy: "name", limit: 3 })
    assert.strictEqual(page.pagination.count, 3)
    assert.isString(page.pagination.next)
  })

  tested("keeps the files of a stopped sandbox in a snapshot and resumes it with them", async (vercel) => {
    const sandbox = await vercel.create({ name: "one" })
    await sandbox.writeFiles([{ path: "file", content: "kept" }])
    const first = sandbox.currentSession().sessionId
    const stopped = await sandbox.stop()
    assert.deepStrictEqual([stopped.status, stopped.snapshot?.creationMethod], ["stopped", "automatic"])
    assert.strictEqual(stopped.snapshot?.sourceSessionId, first)
    assert.strictEqual(await statusOf(sandbox, vercel.at), "stopped")
    assert.strictEqual(await fileOf(sandbox, "file"), "kept")
    assert.notStrictEqual(sandbox.currentSession().sessionId, first)
    const sessions = await (await sandbox.listSessions()).toArray()
    assert.deepStrictEqual(
      sessions.map(({ status }) => status),
      ["running", "stopped"]
    )
    assert.strictEqual(sandbox.sourceSnapshotId, stopped.snapshot?.id)
  })

  tested("refuses commands on a stopped session with its state", async (vercel) => {
    const sandbox = await vercel.create()
    const session = sandbox.currentSession()
    await sandbox.stop()
    assert.deepStrictEqual(await refusal(session.runCommand("true")), [410, "sandbox_stopped"])
    assert.deepStrictEqual(await refusal(session.stop()), [410, "sandbox_stopped"])
    await sandbox.delete()
    assert.deepStrictEqual(await refusal(session.stop()), [404, "not_found"])
  })

  tested("notices a sandbox that stopped at the provider, and keeps its files", async (vercel) => {
    const sandbox = await vercel.create({ name: "one" })
    await sandbox.writeFiles([{ path: "file", content: "kept" }])
    await vercel.halt("one")
    assert.deepStrictEqual(await refusal(sandbox.currentSession().runCommand("true")), [410, "sandbox_stopped"])
    assert.strictEqual(await fileOf(sandbox, "file"), "kept")
    await vercel.halt("one")
    const again = await Sandbox.get({ ...vercel.at, name: "one", resume: true })
    assert.strictEqual(await fileOf(again, "file"), "kept")
    assert.strictEqual((await (await again.listSessions()).toArray()).length, 3)
  })

  tested("starts one session for concurrent resumes", async (vercel) => {
    const sandbox = await vercel.create({ name: "one" })
    const others = await Promise.all([1, 2, 3, 4].map(() => Sandbox.get({ ...vercel.at, name: "one" })))
    const stop = sandbox.stop()
    await Promise.all(others.map((other) => other.runCommand("true")))
    await stop
    const sessions = await (await sandbox.listSessions()).toArray()
    assert.strictEqual(sessions.filter(({ status }) => status === "running").length, 1)
    assert.strictEqual(new Set(others.map((other) => other.currentSession().sessionId)).size, 1)
  })

  tested("takes no snapshot of a sandbox that is not persistent, and does not resume it", async (vercel) => {
    const sandbox = await vercel.create({ persistent: false })
    assert.isUndefined((await sandbox.stop()).snapshot)
    assert.deepStrictEqual(await refusal(sandbox.runCommand("true")), [410, "snapshot_not_found"])
  })

  tested(
    "resumes a sandbox without a snapshot if the emulator is configured to",
    async (vercel) => {
      const sandbox = await vercel.create({ persistent: false })
      await sandbox.writeFiles([{ path: "file", content: "lost" }])
      await sandbox.stop()
      assert.isNull(await fileOf(sandbox, "file"))
      await sandbox.stop()
      assert.strictEqual((await sandbox.currentSession().stop()).session.status, "stopped")
    },
    { withoutSnapshot: "clean", stopOfStopped: "ok" }
  )

  tested("takes a snapshot, which stops the session, and boots other sandboxes from it", async (vercel) => {
    const sandbox = await vercel.create({ persistent: false })
    await sandbox.writeFiles([{ path: "file", content: "in it" }])
    const snapshot = await sandbox.snapshot({ expiration: 2 * day })
    assert.strictEqual(snapshot.status, "created")
    assert.strictEqual(snapshot.expiresAt?.getTime(), snapshot.createdAt.getTime() + 2 * day)
    assert.strictEqual(await statusOf(sandbox, vercel.at), "stopped")
    const other = await vercel.create({ source: { type: "snapshot", snapshotId: snapshot.snapshotId } })
    assert.strictEqual(await fileOf(other, "file"), "in it")
    assert.strictEqual(other.sourceSnapshotId, snapshot.snapshotId)
    await other.writeFiles([{ path: "file", content: "later" }])
    const last = await other.snapshot()
    const back = await Sandbox.get({ ...vercel.at, name: other.name, resume: false })
    await back.update({ currentSnapshotId: snapshot.snapshotId })
    assert.strictEqual(await fileOf(back, "file"), "in it")
    const { snapshot: third } = await back.stop()
    const tree = async (snapshotId: string, sortOrder: "asc" | "desc") => {
      const nodes = await (await Snapshot.tree({ ...vercel.at, snapshotId, sortOrder, limit: 1 })).toArray()
      return nodes.map(({ count, siblings, snapshot }) => [snapshot.id, siblings.map(({ id }) => id), count])
    }
    assert.deepStrictEqual(await tree(last.snapshotId, "desc"), [[snapshot.snapshotId, [], "1"]])
    assert.deepStrictEqual(await tree(snapshot.snapshotId, "asc"), [[last.snapshotId, [third!.id], "2"]])
    const own = await (await Snapshot.list({ ...vercel.at, name: sandbox.name })).toArray()
    assert.deepStrictEqual(
      own.map(({ id }) => id),
      [snapshot.snapshotId]
    )
  })

  tested("refuses to boot from a deleted or unknown snapshot", async (vercel) => {
    const { snapshotId } = await (await vercel.create()).snapshot()
    const snapshot = await Snapshot.get({ ...vercel.at, snapshotId })
    await snapshot.delete()
    assert.strictEqual((await Snapshot.get({ ...vercel.at, snapshotId })).status, "deleted")
    const from = (id: string) => vercel.create({ source: { type: "snapshot", snapshotId: id } })
    assert.deepStrictEqual(await refusal(from(snapshotId)), [410, "snapshot_not_found"])
    assert.deepStrictEqual(await refusal(from("snap_none")), [404, "not_found"])
    assert.deepStrictEqual(await refusal(Snapshot.get({ ...vercel.at, snapshotId: "snap_none" })), [404, "not_found"])
  })

  tested("keeps only as many snapshots as the sandbox is set to", async (vercel) => {
    const sandbox = await vercel.create({ keepLastSnapshots: { count: 1 } })
    await sandbox.stop()
    await sandbox.runCommand("true")
    const { snapshot } = await sandbox.stop()
    const all = await (await sandbox.listSnapshots()).toArray()
    assert.deepStrictEqual(all.map(({ id, status }) => (id === snapshot!.id ? `last ${status}` : status)).toSorted(), [
      "deleted",
      "last created"
    ])
    await sandbox.runCommand("true")
  })

  tested("forks a sandbox with its settings and the files of its snapshot", async (vercel) => {
    const sandbox = await vercel.create({ name: "one", env: { A: "1" }, tags: { t: "1" }, resources: { vcpus: 4 } })
    await sandbox.writeFiles([{ path: "file", content: "forked" }])
    await sandbox.stop()
    const fork = await Sandbox.fork({ ...vercel.at, sourceSandbox: "one", name: "two", tags: { t: "2" } })
    assert.deepStrictEqual([fork.vcpus, fork.tags], [4, { t: "2" }])
    assert.strictEqual(await fileOf(fork, "file"), "forked")
    const done = await fork.runCommand(steps(Step.PrintVariable({ name: "A" })))
    assert.strictEqual(await done.stdout(), "1")
    assert.deepStrictEqual(await refusal(Sandbox.fork({ ...vercel.at, sourceSandbox: "none" })), [404, "not_found"])
  })

  tested("changes the settings of a sandbox", async (vercel) => {
    const sandbox = await vercel.create({ ports: [3000], keepLastSnapshots: { count: 2 } })
    await sandbox.update({
      persistent: false,
      timeout: 600_000,
      resources: { vcpus: 4 },
      tags: { a: "b" },
      ports: [3000, 4000],
      keepLastSnapshots: null,
      networkPolicy: {
        allow: { "a.example": [{ transform: [{ headers: { secret: "1" } }] }] },
        subnets: { deny: ["10.0.0.0/8"] }
      }
    })
    const got = await Sandbox.get({ ...vercel.at, name: sandbox.name })
    assert.deepStrictEqual(
      [got.persistent, got.timeout, got.memory, got.tags, got.keepLastSnapshots, got.routes.map(({ port }) => port)],
      [false, 600_000, 8192, { a: "b" }, undefined, [3000, 4000]]
    )
    assert.deepInclude(got.networkPolicy, { subnets: { deny: ["10.0.0.0/8"] } })
    assert.notInclude(JSON.stringify(got.networkPolicy), '"1"')
  })

  tested("relays connections to the ports of a sandbox, and reports a port without a listener", async (vercel) => {
    const sandbox = await vercel.create({ ports: [3000] })
    const [route] = sandbox.routes
    const deaf = await fetch(route!.url)
    assert.deepStrictEqual([deaf.status, await deaf.text()], [502, "SANDBOX_NOT_LISTENING\n"])
    const text = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nheard: "
    await sandbox.runCommand({ ...steps(Step.Listen({ port: 3000, text })), detached: true })
    assert.match(await (await fetch(`${route!.url}/path`)).text(), /^heard: GET \/path HTTP\/1.1/)
    assert.match(await (await vercel.fetch(`${sandbox.domain(3000)}/path`)).text(), /^heard: GET \/path HTTP\/1.1/)
    await sandbox.stop()
    assert.strictEqual((await fetch(route!.url)).status, 410)
    await sandbox.runCommand({ ...steps(Step.Listen({ port: 3000, text })), detached: true })
    assert.strictEqual((await fetch(route!.url)).status, 200)
    assert.throws(() => sandbox.domain(3001))
  })

  tested("deletes a sandbox, and its snapshots on request", async (vercel) => {
    const [kept, gone] = [await vercel.create(), await vercel.create()]
    await kept.stop()
    await gone.stop()
    await kept.delete()
    await gone.delete({ deleteOrphanSnapshots: true })
    const all = await (await Snapshot.list({ ...vercel.at })).toArray()
    assert.deepStrictEqual(all.map(({ status }) => status).toSorted(), ["created", "deleted"])
    assert.deepStrictEqual(await refusal(kept.delete()), [404, "not_found"])
    assert.strictEqual((await vercel.create({ name: kept.name })).status, "running")
  })

  timed("stops a sandbox at its timeout, and resumes it with its files and a new timeout", async (vercel, pass) => {
    const sandbox = await vercel.create({ timeout: 60_000 })
    await sandbox.writeFiles([{ path: "file", content: "kept" }])
    await pass(59_000)
    assert.strictEqual(await statusOf(sandbox, vercel.at), "running")
    await pass(1000)
    assert.strictEqual(await statusOf(sandbox, vercel.at), "stopped")
    assert.strictEqual(await fileOf(sandbox, "file"), "kept")
    await pass(59_000)
    assert.strictEqual(await statusOf(sandbox, vercel.at), "running")
  })

  timed(
    "extends the timeout of a session within the limit of the plan",
    async (vercel, pass) => {
      const sandbox = await vercel.create({ timeout: 60_000 })
      await sandbox.extendTimeout(60_000)
      assert.deepStrictEqual(await refusal(sandbox.extendTimeout(60_000)), [400, "sandbox_timeout_invalid"])
      assert.deepStrictEqual(await refusal(sandbox.extendTimeout(999)), [400, "bad_request"])
      await pass(119_000)
      assert.strictEqual(await statusOf(sandbox, vercel.at), "running")
      await pass(1000)
      assert.strictEqual(await statusOf(sandbox, vercel.at), "stopped")
    },
    { plan: { maxTimeout: 150_000 } }
  )

  timed("expires a snapshot some time after its last use", async (vercel, pass) => {
    const sandbox = await vercel.create({ name: "one", snapshotExpiration: 2 * day })
    await sandbox.stop()
    await pass(day)
    await sandbox.runCommand("true")
    const { snapshot } = await sandbox.stop()
    await pass(2 * day - 1000)
    assert.strictEqual((await Snapshot.get({ ...vercel.at, snapshotId: snapshot!.id })).status, "created")
    await pass(1000)
    assert.strictEqual((await Snapshot.get({ ...vercel.at, snapshotId: snapshot!.id })).status, "deleted")
    assert.deepStrictEqual(await refusal(sandbox.runCommand("true")), [410, "snapshot_not_found"])
  })

  tested("sends the documented statuses, headers and bodies on the wire", async (vercel) => {
    const headers = { authorization: "Bearer any", "content-type": "application/json" }
    const ask = (path: string, body?: object) =>
      fetch(`${new URL(vercel.url).origin}${path}`, {
        headers,
        ...(body && { method: "POST", body: JSON.stringify(body) })
      })
    const made = await ask("/api/v3/sandboxes?teamId=t", { projectId: "p", name: "one", ports: [] })
    const { routes, sandbox, session } = (await made.json()) as Record<
      "routes" | "sandbox" | "session",
      Record<string, unknown>
    >
    assert.deepStrictEqual([made.status, routes, session.networkPolicy], [200, [], { mode: "allow-all" }])
    assert.notInclude(JSON.stringify({ sandbox, session }), "null")
    assert.strictEqual(sandbox.currentSessionId, session.id)
    assert.deepStrictEqual([typeof session.runtime, typeof session.interactivePort], ["string", "number"])
    const at = `/v2/sandboxes/sessions/${session.id}`
    const run = { command: "echo", args: ["größe"], env: {}, sudo: false, wait: true }
    const attached = await ask(`${at}/cmd?teamId=t`, { ...run, logs: true })
    assert.strictEqual(attached.headers.get("content-type"), "application/x-ndjson")
    const text = await attached.text()
    assert.include(text, '{"stream":"stdout","data":"gr\\u00f6\\u00dfe\\n"}\n')
    const [first, , last] = text.split("\n").map((line) => (line === "" ? undefined : JSON.parse(line)))
    assert.deepInclude(first.command, { name: "echo", cwd: "/home/user", sessionId: session.id, exitCode: null })
    assert.deepInclude(last.command, { id: first.command.id, exitCode: 0 })
    assert.strictEqual((await (await ask(`${at}/cmd?teamId=t`, run)).text()).split("\n").length, 3)
    const list = (await (await ask(`${at}/cmd?teamId=t`)).json()) as { commands: ReadonlyArray<object> }
    assert.strictEqual(list.commands.length, 2)
    assert.strictEqual((await ask(`${at}?teamId=t`)).status, 200)
    assert.strictEqual((await ask(`${at}/network-policy?teamId=t`, { mode: "deny-all" })).status, 200)
    assert.strictEqual((await ask(`${at}/interactive?teamId=t`, {})).status, 200)
    for (const path of [
      `${at}?teamId=other`,
      "/v2/sandboxes/none?teamId=t&projectId=p",
      "/v2/sandboxes/drives?teamId=t"
    ]) {
      const none = await ask(path)
      const { error } = (await none.json()) as { error: { code: string; message: string } }
      assert.deepStrictEqual([none.status, error.code, typeof error.message], [404, "not_found", "string"])
    }
    const broken = await fetch(`${vercel.url}/v3/sandboxes`, { method: "POST", headers, body: "{" })
    assert.strictEqual(broken.status, 400)
  })

  tested(
    "accepts only the configured tokens, each for its own teams",
    async (vercel) => {
      const as = (token: string, teamId: string) => Sandbox.create({ ...vercel.at, token, teamId })
      assert.strictEqual((await as("right", "team_1")).status, "running")
      assert.deepStrictEqual(await refusal(as("right", "team_2")), [403, "forbidden"])
      assert.deepStrictEqual(await refusal(as("wrong", "team_1")), [403, "forbidden"])
      assert.strictEqual((await fetch(`${vercel.url}/v2/sandboxes`)).status, 401)
    },
    { tokens: { right: ["team_1"] } }
  )
})
