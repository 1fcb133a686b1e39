import { Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Layer, Logger } from "effect"
import { WebApi } from "../WebApi.ts"

const quiet = Logger.layer([])
const api = Layer.fresh(WebApi.layer).pipe(Layer.provideMerge(quiet))

/** A repository of the service that every account may use, and its URL. */
const repository = Effect.gen(function* () {
  const host = yield* RepoHost
  const repo = new Repo({ owner: RepoOwner.make(host.supports.owner), name: RepoName.make("site") })
  yield* host.ensure(repo)
  return `${host.supports.url}/${repo.owner}/${repo.name}`
})

/** The existing sandboxes, without those that build a base image. */
const ofSessions = Effect.map(MemorySandboxes, (sandboxes) =>
  sandboxes
    .names()
    .filter((name) => name.startsWith("ses_"))
    .map(String)
)

/** An account with a session, and requests about it. */
const holder = Effect.gen(function* () {
  const { ask, join } = yield* WebApi
  const { account, key } = yield* join()
  const repoUrl = yield* repository
  const { json, status } = yield* ask("POST", "/api/sessions", { key, body: { title: "work" } })
  assert.strictEqual(status, 201)
  const id: string = json.session.id
  return {
    account,
    key,
    id,
    repoUrl,
    open: ask("POST", "/api/sandbox", { key, body: { repoUrl, sessionId: id } }),
    about: (method: string, path: string, body?: unknown) => ask(method, path, { key, body }),
    session: Effect.map(ask("GET", `/api/sessions/${id}`, { key }), ({ json }) => json.session)
  }
})

describe("A session", () => {
  it.effect("is opened by a repository URL of an older server, and shows the current URL", () =>
    Effect.gen(function* () {
      const { about, account, id, open, repoUrl, session } = yield* holder
      const { formerUrl, url } = (yield* RepoHost).supports
      const former = repoUrl.replace(url, formerUrl!)
      const scope = AccountScope.ofOwner({ account: account.id })
      yield* (yield* SessionStore).change(scope, SessionId.make(id), { repo: former }, yield* DateTime.now)
      assert.strictEqual((yield* session).repoUrl, repoUrl)
      assert.strictEqual((yield* open).status, 200)
      const again = yield* about("POST", "/api/sandbox", { repoUrl: former, sessionId: id })
      assert.strictEqual(again.status, 200)
      const made = yield* about("POST", "/api/sessions", { repoUrl: former })
      assert.deepStrictEqual([made.status, made.json.session.repoUrl], [201, repoUrl])
    }).pipe(Effect.provide(api))
  )

  it.effect("has no sandbox until it is opened, and keeps that one", () =>
    Effect.gen(function* () {
      const { about, id, open, repoUrl, session } = yield* holder
      const before = yield* about("GET", `/api/sandbox/status?sessionId=${id}`)
      assert.deepStrictEqual(
        [before.json.status, before.json.hasSnapshot, before.json.lifecycleVersion, before.json.lifecycle.state],
        ["no_sandbox", false, 0, null]
      )
      const opened = yield* open
      assert.strictEqual(opened.status, 200)
      const { createdAt, currentBranch, mode, timeout, timing } = opened.json
      assert.deepStrictEqual([currentBranch, mode], ["main", "memory"])
      for (const number of [createdAt, timeout, timing.readyMs]) assert.isTrue(Number.isInteger(number))
      assert.isAbove(timeout, 0)
      const { json } = yield* about("GET", `/api/sandbox/status?sessionId=${id}`)
      assert.deepStrictEqual([json.status, json.hasSnapshot, json.lifecycle.state], ["active", false, "active"])
      assert.strictEqual(json.lifecycle.hibernateAfter - json.lifecycle.lastActivityAt, 5 * 60_000)
      const { repoUrl: bound, sandboxId } = yield* session
      assert.strictEqual(bound, repoUrl)
      yield* open
      assert.deepStrictEqual(yield* ofSessions, [sandboxId])
    }).pipe(Effect.provide(api))
  )

  it.effect("fails to open with the reason if its repository can't be used, without a retry time", () =>
    Effect.gen(function* () {
      const { about, id, key, session } = yield* holder
      const { ask } = yield* WebApi
      const repoUrl = "https://public.memory.test/no/where"
      const reason = "The repository does not exist, or may not be read"
      const body = {
        status: "error",
        success: false,
        error: "Failed to provision sandbox",
        code: "sandbox_not_provisioned",
        reason,
        reasonCode: "repository_not_found"
      }
      const opens = yield* Effect.all(
        [
          about("POST", "/api/sandbox", { repoUrl, sessionId: id }),
          about("POST", "/api/sandbox", { repoUrl, sessionId: id }),
          ask("POST", "/api/sandbox", { key, body: { repoUrl } })
        ],
        { concurrency: 3 }
      )
      for (const { json, status } of opens) assert.deepStrictEqual([status, json], [400, body])
      const { lifecycleError, lifecycleErrorCode, lifecycleState } = yield* session
      assert.deepStrictEqual(
        [lifecycleState, lifecycleError, lifecycleErrorCode],
        ["failed", reason, "repository_not_found"]
      )
    }).pipe(Effect.provide(api))
  )

  it.effect("fails to open with a retry time if the provider is unavailable", () => {
    const marked = "s3cr3t-t0ken /srv/private db.internal.example"
    const down = new SandboxUnavailable({ operation: marked, retryable: true, cause: new Error(marked) })
    const failing = Layer.effect(
      SandboxProvider,
      Effect.map(SandboxProvider, (real) => ({ ...real, create: () => Effect.fail(down) }))
    )
    return Effect.gen(function* () {
      const { open } = yield* holder
      const { headers, json, status } = yield* open
      assert.deepStrictEqual(
        [status, json],
        [
          502,
          {
            status: "error",
            success: false,
            error: "Failed to provision sandbox",
            code: "sandbox_not_provisioned",
            reason: "The sandbox provider could not be reached",
            reasonCode: "provider_unavailable",
            retryAfterMs: 1000
          }
        ]
      )
      assert.strictEqual(headers.get("retry-after"), "1")
    }).pipe(Effect.provide(Layer.fresh(WebApi.over(failing)).pipe(Layer.provideMerge(quiet))))
  })

  it.effect("has one sandbox if it is opened many times at once", () =>
    Effect.gen(function* () {
      const { open } = yield* holder
      const answers = yield* Effect.all(
        Array.from({ length: 20 }, () => open),
        { concurrency: 20 }
      )
      assert.deepStrictEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
      assert.strictEqual(new Set(answers.map(({ json }) => json.createdAt)).size, 1)
      assert.strictEqual((yield* ofSessions).length, 1)
    }).pipe(Effect.provide(api))
  )

  it.effect("hibernates with its files, and is restored by an open and not by a read", () =>
    Effect.gen(function* () {
      const { about, id, open, session } = yield* holder
      yield* open
      const { sandboxId } = yield* session
      const provider = yield* SandboxProvider
      const run = yield* about("POST", `/api/sessions/${id}/commands`, {
        command: "steps",
        args: [JSON.stringify([{ _tag: "Append", path: "kept.txt", text: "kept" }])],
        wait: true
      })
      assert.strictEqual(run.json.run.status, "COMPLETED")
      assert.deepStrictEqual((yield* about("DELETE", `/api/sandbox?sessionId=${id}`)).json, { success: true })
      assert.deepStrictEqual((yield* about("DELETE", `/api/sandbox?sessionId=${id}`)).json, {
        success: true,
        alreadyStopped: true
      })
      const status = yield* about("GET", `/api/sandbox/status?sessionId=${id}`)
      assert.deepStrictEqual(
        [status.json.status, status.json.hasSnapshot, status.json.lifecycle.state],
        ["no_sandbox", true, "hibernated"]
      )
      const reconnect = yield* about("GET", `/api/sandbox/reconnect?sessionId=${id}`)
      assert.deepStrictEqual([reconnect.json.status, reconnect.json.hasSnapshot], ["expired", true])
      const asleep = yield* provider.find(SandboxName.make(sandboxId))
      assert.strictEqual(asleep._tag === "Some" ? asleep.value.status : "gone", "stopped")
      assert.strictEqual((yield* open).status, 200)
      const read = yield* about("POST", `/api/sessions/${id}/commands`, {
        command: "steps",
        args: [JSON.stringify([{ _tag: "PrintFile", path: "kept.txt" }])],
        wait: true
      })
      assert.strictEqual(read.json.run.output.stdout, "kept")
      const directory = yield* about("POST", `/api/sessions/${id}/commands`, {
        command: "steps",
        args: [JSON.stringify([{ _tag: "PrintDirectory" }])],
        wait: true
      })
      assert.strictEqual(directory.json.run.output.stdout, "/home/user/workspace")
    }).pipe(Effect.provide(api))
  )

  it.effect("gets a new sandbox under the same name if the provider lost the old one, and records the loss", () =>
    Effect.gen(function* () {
      const { about, id, open, session } = yield* holder
      yield* open
      const { sandboxId } = yield* session
      yield* (yield* SandboxProvider).remove(SandboxName.make(sandboxId))
      const gone = yield* about("GET", `/api/sandbox/reconnect?sessionId=${id}`)
      assert.deepStrictEqual([gone.json.status, gone.json.hasSnapshot], ["expired", false])
      assert.strictEqual((yield* open).status, 200)
      const after = yield* session
      assert.deepStrictEqual([after.sandboxId, after.lifecycleState], [sandboxId, "active"])
      assert.match(after.lifecycleError, /lost/)
    }).pipe(Effect.provide(api))
  )

  it.effect("can't be opened while it is archived, and is restored with its files", () =>
    Effect.gen(function* () {
      const { about, id, open, session } = yield* holder
      yield* open
      const put = yield* about("PATCH", `/api/sessions/${id}`, { status: "archived" })
      assert.deepStrictEqual([put.json.session.status, put.json.session.lifecycleState], ["archived", "archived"])
      const refused = yield* open
      assert.deepStrictEqual([refused.status, refused.json.error], [409, "Session is archived"])
      const out = yield* about("PATCH", `/api/sessions/${id}`, { status: "running", title: "again" })
      assert.deepStrictEqual(
        [out.json.session.status, out.json.session.lifecycleState, out.json.session.title],
        ["running", "hibernated", "again"]
      )
      assert.strictEqual((yield* open).status, 200)
      assert.strictEqual((yield* session).lifecycleState, "active")
    }).pipe(Effect.provide(api))
  )

  it.effect("belongs to its account alone, also if others may act for that account", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { id, open, repoUrl } = yield* holder
      yield* open
      const admin = yield* join({ platformAdmin: true })
      const requests: ReadonlyArray<readonly [string, string, unknown?]> = [
        ["GET", `/api/sessions/${id}`],
        ["PATCH", `/api/sessions/${id}`, { title: "mine" }],
        ["POST", `/api/sessions/${id}/commands`, { command: "true" }],
        ["POST", "/api/sandbox", { repoUrl, sessionId: id }],
        ["GET", `/api/sandbox/status?sessionId=${id}`],
        ["GET", `/api/sandbox/reconnect?sessionId=${id}`],
        ["POST", "/api/sandbox/activity", { sessionId: id }],
        ["POST", "/api/sandbox/extend", { sessionId: id }],
        ["DELETE", `/api/sandbox?sessionId=${id}`]
      ]
      for (const [method, path, body] of requests) {
        const foreign = yield* ask(method, path, { key: admin.key, body })
        assert.deepStrictEqual([foreign.status, foreign.json.error], [403, "Forbidden"], `${method} ${path}`)
        const text = JSON.stringify(body ?? null)
        for (const unknown of ["00000000-0000-4000-8000-000000000000", "no-id"]) {
          const missing = yield* ask(method, path.replace(id, unknown), {
            key: admin.key,
            body: JSON.parse(text.replace(id, unknown)) ?? undefined
          })
          assert.deepStrictEqual([missing.status, missing.json.error], [404, "Session not found"], `${method} ${path}`)
        }
      }
    }).pipe(Effect.provide(api))
  )

  it.effect("keeps its repository, and accepts only a URL of the repository host", () =>
    Effect.gen(function* () {
      const { about, id, open, repoUrl } = yield* holder
      const sandbox = (body: unknown) => about("POST", "/api/sandbox", body)
      assert.deepStrictEqual((yield* sandbox({ sessionId: id })).json.error, "repoUrl is required")
      for (const wrong of [
        "not a url",
        "https://example.org/a/b",
        "ftp://github.com/a/b",
        `${repoUrl}/more`,
        `${repoUrl}?x=1`,
        repoUrl.replace("://", "://user:word@")
      ]) {
        const { json, status } = yield* sandbox({ sessionId: id, repoUrl: wrong })
        assert.deepStrictEqual([status, json.error], [400, "repoUrl must be a valid GitHub repository URL"], wrong)
      }
      yield* open
      assert.strictEqual((yield* sandbox({ sessionId: id, repoUrl: `${repoUrl}.git` })).status, 200)
      const host = yield* RepoHost
      const other = new Repo({ owner: host.supports.owner, name: RepoName.make("other") })
      yield* host.ensure(other)
      const differs = yield* sandbox({ sessionId: id, repoUrl: `${host.supports.url}/${other.owner}/${other.name}` })
      assert.deepStrictEqual(
        [differs.status, differs.json.error],
        [400, "repoUrl must be the repository of the session"]
      )
    }).pipe(Effect.provide(api))
  )

  it.effect("can't use a repository that was created for another account", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { about } = yield* holder
      const other = yield* join()
      yield* ask("POST", "/api/sandboxes/setup", { key: other.key })
      const host = yield* RepoHost
      const foreign = `${host.supports.url}/${host.supports.owner}/somebody-${other.account.id}`
      const { json, status } = yield* about("POST", "/api/sessions", { repoUrl: foreign })
      assert.deepStrictEqual([status, json.error], [400, "repoUrl must be a valid GitHub repository URL"])
    }).pipe(Effect.provide(api))
  )

  it.effect("reads its organization's repositories for as long as its owner is a member", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [owner, member] = [yield* join(), yield* join()]
      const made = yield* ask("POST", "/api/organizations", { key: owner.key, body: { name: "Analytical Engines" } })
      const organizationId: string = made.json.organization.id
      const members = `/api/organizations/${organizationId}/members`
      yield* ask("POST", members, { key: owner.key, body: { accountId: member.account.id } })
      yield* ask("POST", `${members}/accept`, { key: member.key })
      const host = yield* RepoHost
      const repo = new Repo({ owner: host.supports.owner, name: RepoName.make(`engines-${organizationId}`) })
      yield* host.ensure(repo)
      const repoUrl = `${host.supports.url}/${repo.owner}/${repo.name}`
      const created = yield* ask("POST", "/api/sessions", { key: member.key, body: { repoUrl, organizationId } })
      const sessionId: string = created.json.session.id
      const open = ask("POST", "/api/sandbox", { key: member.key, body: { repoUrl, sessionId } })
      assert.strictEqual((yield* open).status, 200)
      yield* ask("DELETE", `${members}/${member.account.id}`, { key: owner.key })
      for (const asleep of [false, true]) {
        if (asleep) yield* ask("DELETE", `/api/sandbox?sessionId=${sessionId}`, { key: member.key })
        const { json, status } = yield* open
        assert.deepStrictEqual([status, json.error], [400, "repoUrl must be a valid GitHub repository URL"])
      }
    }).pipe(Effect.provide(api))
  )

  it.effect("reports its remaining time, and is extended", () =>
    Effect.gen(function* () {
      const { about, id, open } = yield* holder
      const idle = yield* about("POST", "/api/sandbox/activity", { sessionId: id })
      assert.deepStrictEqual([idle.status, idle.json.error], [409, "Sandbox is not running"])
      yield* open
      assert.deepStrictEqual((yield* about("POST", "/api/sandbox/activity", { sessionId: id })).json, { success: true })
      const { json: before } = yield* about("GET", `/api/sandbox/reconnect?sessionId=${id}`)
      assert.strictEqual(before.status, "connected")
      const { json } = yield* about("POST", "/api/sandbox/extend", { sessionId: id, ms: 60_000 })
      assert.deepStrictEqual(json, { success: true, expiresAt: before.expiresAt + 60_000, extendedBy: 60_000 })
    }).pipe(Effect.provide(api))
  )

  it.effect("is extended by the server's default if no duration is given", () =>
    Effect.gen(function* () {
      const { about, id, open } = yield* holder
      yield* open
      const { json: before } = yield* about("GET", `/api/sandbox/reconnect?sessionId=${id}`)
      const { json } = yield* about("POST", "/api/sandbox/extend", { sessionId: id })
      const extendedBy = 7 * 60_000
      assert.deepStrictEqual(json, { success: true, expiresAt: before.expiresAt + extendedBy, extendedBy })
    }).pipe(
      Effect.provide(
        Layer.fresh(WebApi.layerWith({ sessionTimes: { extension: Duration.minutes(7) } })).pipe(
          Layer.provideMerge(quiet)
        )
      )
    )
  )

  it.effect("is created and opened only as often per minute as the limit allows", () =>
    Effect.gen(function* () {
      const { about, id, open, repoUrl } = yield* holder
      assert.strictEqual((yield* open).status, 200)
      const requests: ReadonlyArray<readonly [string, unknown]> = [
        ["/api/sessions", {}],
        ["/api/sandbox", { repoUrl, sessionId: id }],
        ["/api/sandbox", { repoUrl }]
      ]
      for (const [path, body] of requests) {
        const { headers, json, status } = yield* about("POST", path, body)
        assert.deepStrictEqual([status, json.code], [429, "rate_limited"], JSON.stringify(body))
        assert.isNotNull(headers.get("retry-after"))
      }
      assert.strictEqual((yield* about("GET", "/api/sessions")).json.sessions.length, 1)
      assert.strictEqual((yield* about("GET", `/api/sessions/${id}`)).status, 200)
    }).pipe(
      Effect.provide(
        Layer.fresh(WebApi.layerWith({ limits: { requests: 100, creates: 2 } })).pipe(Layer.provideMerge(quiet))
      )
    )
  )

  it.effect("appears in its account's list, newest first, unless it was created by an open", () =>
    Effect.gen(function* () {
      const { about, id, repoUrl } = yield* holder
      const once = yield* about("POST", "/api/sandbox", { repoUrl })
      assert.strictEqual(once.status, 200)
      const second = yield* about("POST", "/api/sessions", {})
      const { json } = yield* about("GET", "/api/sessions")
      assert.deepStrictEqual(
        json.sessions.map((session: any) => [session.id, session.title]).toSorted(),
        [
          [id, "work"],
          [second.json.session.id, "New session"]
        ].toSorted()
      )
      const page = yield* about("GET", "/api/sessions?limit=1")
      const rest = yield* about("GET", `/api/sessions?limit=1&cursor=${page.json.next_cursor}`)
      assert.strictEqual(rest.json.sessions.length, 1)
      assert.isUndefined(rest.json.next_cursor)
    }).pipe(Effect.provide(api))
  )
})
