import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { Account } from "@castellan/domain/identity/Account.ts"
import { TreeEntry } from "@castellan/domain/repo/FileTree.ts"
import { freshMs } from "@castellan/domain/repo/FileTrees.ts"
import { Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { author } from "@castellan/testkit/fakes/repo/MemoryAuthor.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Latch, Layer, Logger, Option } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

const quiet = Logger.layer([])
const api = Layer.fresh(WebApi.layer).pipe(Layer.provideMerge(quiet))

/** Sets an account up, waits for the end, and returns the run. */
const setUp = Effect.fnUntraced(function* ({ account, key }: { readonly account: Account; readonly key: string }) {
  const { ask } = yield* WebApi
  const { json, status } = yield* ask("POST", "/api/sandboxes/setup", { key })
  assert.strictEqual(status, 200)
  const scope = AccountScope.ofOwner({ account: account.id })
  yield* (yield* TaskRuns).awaitEnd(scope, RunId.make(json.runId), Duration.minutes(1))
  const { json: found } = yield* ask("GET", `/api/tasks/runs?runId=${json.runId}`, { key })
  return found.runs[0]
})

describe("The setup of an account", () => {
  it.effect("creates a repository and a snapshot, and the list shows them", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      const { key } = somebody
      const before = yield* ask("GET", "/api/sandboxes", { key })
      assert.deepStrictEqual(
        [before.json.snapshot_id, before.json.github_repo, before.json.filetree],
        [null, null, null]
      )
      const run = yield* setUp(somebody)
      assert.deepStrictEqual([run.taskIdentifier, run.status], ["setup-sandbox", "COMPLETED"])
      const { json } = yield* ask("GET", "/api/sandboxes", { key })
      assert.deepStrictEqual(run.output, { githubRepo: json.github_repo, snapshotId: json.snapshot_id })
      assert.deepStrictEqual(
        json.filetree.map(({ path, type }: { path: string; type: string }) => [path, type]),
        [["README.md", "blob"]]
      )
      const file = yield* ask("GET", "/api/sandboxes/file?path=README.md", { key })
      assert.match(file.json.content, /^# somebody-/)
    }).pipe(Effect.provide(api))
  )

  it.effect("returns the running setup to every request, and a new run once it is done", () => {
    const asked = Latch.makeUnsafe()
    const waiting = Layer.effect(
      RepoHost,
      Effect.map(RepoHost, (real) => ({ ...real, ensure: (repo) => Effect.andThen(asked.await, real.ensure(repo)) }))
    )
    return Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      const answers = yield* Effect.all(
        Array.from({ length: 5 }, () => ask("POST", "/api/sandboxes/setup", { key: somebody.key })),
        { concurrency: 5 }
      )
      assert.strictEqual(new Set(answers.map(({ json }) => json.runId)).size, 1)
      const [first] = answers
      yield* asked.open
      const scope = AccountScope.ofOwner({ account: somebody.account.id })
      yield* (yield* TaskRuns).awaitEnd(scope, RunId.make(first!.json.runId), Duration.minutes(1))
      const again = yield* setUp(somebody)
      assert.notStrictEqual(again.id, first!.json.runId)
      assert.strictEqual(again.status, "COMPLETED")
      assert.strictEqual((yield* MemoryRepos).repos().length, 1)
    }).pipe(Effect.provide(Layer.fresh(WebApi.over(waiting)).pipe(Layer.provideMerge(quiet))))
  })

  it.effect(
    "lists a large repository whole, says where entries are left out, and lists fewer of them on a create",
    () => {
      const count = 20_000
      const paths = Array.from({ length: count }, (_, n) => `directory/"quoted"-é-${n}`)
      const entries = paths.map((path, n) => new TreeEntry({ path, type: "blob", sha: "0".repeat(40), size: n }))
      let truncated = false
      const large = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real) => ({
          ...real,
          tree: () => Effect.sync(() => Option.some({ revision: `truncated: ${truncated}`, entries, truncated }))
        }))
      )
      return Effect.gen(function* () {
        const { ask, join } = yield* WebApi
        const somebody = yield* join()
        const { key } = somebody
        yield* setUp(somebody)
        const whole = yield* ask("GET", "/api/sandboxes", { key })
        assert.notProperty(whole.json, "filetree_truncated")
        assert.deepStrictEqual(
          whole.json.filetree,
          entries.map((entry) => ({ ...entry }))
        )
        assert.lengthOf(whole.json.sandboxes, 1)
        assert.isNotNull(whole.json.github_repo)
        truncated = true
        yield* TestClock.adjust(freshMs)
        const cut = yield* ask("GET", "/api/sandboxes", { key })
        assert.deepStrictEqual([cut.json.filetree.length, cut.json.filetree_truncated], [count, true])
        const create = { key, headers: { "idempotency-key": "large" } }
        const first = yield* ask("POST", "/api/sandboxes", create)
        assert.deepStrictEqual([first.json.filetree.length, first.json.filetree_truncated], [5000, true])
        const again = yield* ask("POST", "/api/sandboxes", create)
        assert.strictEqual(again.headers.get("idempotency-replayed"), "true")
        assert.deepStrictEqual(again.json, first.json)
      }).pipe(Effect.provide(Layer.fresh(WebApi.over(large)).pipe(Layer.provideMerge(quiet))))
    }
  )

  it.effect("keeps what a sandbox made and what others pushed", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      yield* setUp(somebody)
      const { json } = yield* ask("POST", "/api/sandboxes", { key: somebody.key })
      const { sandboxId } = json.sandboxes[0]
      const read = yield* ask("GET", `/api/sandboxes/${sandboxId}/file?path=workspace/README.md`, { key: somebody.key })
      assert.match(read.text, /^# somebody-/)
      yield* ask("PUT", `/api/sandboxes/${sandboxId}/file?path=workspace/notes/plan.md`, {
        key: somebody.key,
        body: "a plan",
        headers: { "content-type": "application/octet-stream" }
      })
      const taken = yield* ask("POST", `/api/sandboxes/${sandboxId}/snapshot`, { key: somebody.key })
      yield* ask("PATCH", "/api/sandboxes", { key: somebody.key, body: { snapshotId: taken.json.snapshotId } })
      assert.strictEqual((yield* setUp(somebody)).status, "COMPLETED")
      const plan = yield* ask("GET", "/api/sandboxes/file?path=notes/plan.md", { key: somebody.key })
      assert.deepStrictEqual(plan.json, { status: "success", content: "a plan" })
    }).pipe(Effect.provide(api))
  )
})

describe("The home directory of an account's sandbox", () => {
  it.effect("is restored with the snapshot and never committed to the repository", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key, ...somebody } = yield* join()
      const inHome =
        ".codex/auth.json .claude/.credentials.json .gemini/oauth_creds.json .kube/config .gitconfig .netrc"
          .concat(" .npmrc .unheard-of/token notes.md")
          .split(" ")
      const inWorkspace = [".config/app.yml", ".gitconfig", ".npmrc", "README.md", "notes.md"]
      const [{ sandboxId }] = (yield* ask("POST", "/api/sandboxes", { key })).json.sandboxes
      for (const path of [...inHome, ...inWorkspace.map((path) => `workspace/${path}`)]) {
        const headers = { "content-type": "application/octet-stream" }
        yield* ask("PUT", `/api/sandboxes/${sandboxId}/file?path=${path}`, { key, body: path, headers })
      }
      const { snapshotId } = (yield* ask("POST", `/api/sandboxes/${sandboxId}/snapshot`, { key })).json
      yield* ask("PATCH", "/api/sandboxes", { key, body: { snapshotId } })
      assert.strictEqual((yield* setUp({ key, ...somebody })).status, "COMPLETED")
      const { filetree } = (yield* ask("GET", "/api/sandboxes", { key })).json
      const files = filetree.filter(({ type }: { type: string }) => type === "blob")
      assert.deepStrictEqual(
        files.map(({ path }: { path: string }) => path),
        inWorkspace
      )
      for (const path of inHome.filter((path) => !inWorkspace.includes(path))) {
        assert.strictEqual((yield* ask("GET", `/api/sandboxes/file?path=${path}`, { key })).status, 404, path)
      }
      const theirs = yield* ask("GET", "/api/sandboxes/file?path=.gitconfig", { key })
      assert.strictEqual(theirs.json.content, "workspace/.gitconfig")
      const next = (yield* ask("POST", "/api/sandboxes", { key })).json.sandboxes[0].sandboxId
      for (const path of inHome) {
        assert.strictEqual((yield* ask("GET", `/api/sandboxes/${next}/file?path=${path}`, { key })).text, path)
      }
    }).pipe(Effect.provide(api))
  )
})

describe("The account's snapshot", () => {
  it.effect("boots new sandboxes, and is forgotten if the provider no longer has it", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      const { key } = somebody
      const { output } = yield* setUp(somebody)
      yield* (yield* SandboxProvider).removeSnapshot(output.snapshotId)
      const { json, status } = yield* ask("POST", "/api/sandboxes", { key })
      assert.deepStrictEqual([status, json.sandboxes[0].sandboxStatus], [200, "running"])
      const list = yield* ask("GET", "/api/sandboxes", { key })
      assert.isNull(list.json.snapshot_id)
      assert.isNotNull(list.json.github_repo)
    }).pipe(Effect.provide(api))
  )

  it.effect("is not used by a create that names another snapshot of the account", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [one, two] = [yield* join(), yield* join()]
      const create = (key: string, body: object) => ask("POST", "/api/sandboxes", { key, body })
      const [source] = (yield* create(one.key, {})).json.sandboxes
      const file = `/api/sandboxes/${source.sandboxId}/file?path=mark`
      const bytes = { "content-type": "application/octet-stream" }
      yield* ask("PUT", file, { key: one.key, headers: bytes, body: "kept" })
      const taken = yield* ask("POST", `/api/sandboxes/${source.sandboxId}/snapshot`, {
        key: one.key,
        body: { expiresInMs: 60_000 }
      })
      const { snapshotId } = taken.json
      const [made] = (yield* create(one.key, { snapshotId })).json.sandboxes
      const read = yield* ask("GET", `/api/sandboxes/${made.sandboxId}/file?path=mark`, { key: one.key })
      assert.strictEqual(read.text, "kept")

      for (const [key, id] of [
        [two.key, snapshotId],
        [one.key, "snap_none"]
      ]) {
        const refused = yield* create(key, { snapshotId: id })
        assert.deepStrictEqual([refused.status, refused.json.error], [404, "Snapshot not found"])
      }
      assert.deepStrictEqual((yield* ask("GET", "/api/sandboxes", { key: two.key })).json.sandboxes, [])
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* create(one.key, { snapshotId })).status, 404)
    }).pipe(Effect.provide(api))
  )

  it.effect("can be any snapshot of the account, and none of another account", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [one, two] = [yield* join(), yield* join()]
      const { json } = yield* ask("POST", "/api/sandboxes", { key: one.key })
      const taken = yield* ask("POST", `/api/sandboxes/${json.sandboxes[0].sandboxId}/snapshot`, {
        key: one.key,
        body: { expiresInMs: 60_000 }
      })
      const { snapshotId } = taken.json
      const foreign = yield* ask("PATCH", "/api/sandboxes", { key: two.key, body: { snapshotId } })
      const unknown = yield* ask("PATCH", "/api/sandboxes", { key: two.key, body: { snapshotId: "snap_none" } })
      assert.deepStrictEqual([foreign.status, foreign.json.error], [404, "Snapshot not found"])
      assert.deepStrictEqual(unknown.json, foreign.json)
      const own = yield* ask("PATCH", "/api/sandboxes", { key: one.key, body: { snapshotId } })
      assert.deepStrictEqual(
        { ...own.json, created_at: undefined },
        {
          account_id: one.account.id,
          snapshot_id: snapshotId,
          expires_at: taken.json.expiresAt,
          github_repo: null,
          created_at: undefined
        }
      )
      assert.deepStrictEqual((yield* ask("PATCH", "/api/sandboxes", { key: one.key })).json, own.json)
      assert.isNull((yield* ask("PATCH", "/api/sandboxes", { key: two.key })).json)
    }).pipe(Effect.provide(api))
  )
})

describe("The account's repository", () => {
  it.effect("has a URL without a path of the server, also if an older server stored one", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      const { key } = somebody
      const { formerUrl, url } = (yield* RepoHost).supports
      const { githubRepo } = (yield* setUp(somebody)).output
      const former = githubRepo.replace(url, formerUrl)
      const scope = AccountScope.ofOwner({ account: somebody.account.id })
      const store = yield* EnvironmentStore
      const saveFormer = Effect.flatMap(DateTime.now, (now) =>
        store.save(scope, { repo: { url: former, granted: false } }, now)
      )
      yield* saveFormer
      const list = yield* ask("GET", "/api/sandboxes", { key })
      assert.strictEqual(list.json.github_repo, githubRepo)
      assert.isNotEmpty(list.json.filetree)
      assert.strictEqual((yield* ask("PATCH", "/api/sandboxes", { key })).json.github_repo, githubRepo)
      const named = yield* ask("PATCH", "/api/sandboxes", { key, body: { github_repo: former } })
      assert.deepStrictEqual([named.status, named.json.github_repo], [200, githubRepo])
      yield* saveFormer
      assert.deepStrictEqual((yield* setUp(somebody)).output.githubRepo, githubRepo)
      yield* saveFormer
      const { json } = yield* ask("DELETE", "/api/sandboxes", { key })
      assert.strictEqual(json.deleted_snapshot.github_repo, githubRepo)
      assert.isEmpty((yield* MemoryRepos).repos())
    }).pipe(Effect.provide(api))
  )

  it.effect("is refused if it was created for another account, and is neither shown nor deleted", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [one, two, admin] = [yield* join(), yield* join(), yield* join({ platformAdmin: true })]
      const { output } = yield* setUp(one)
      const named = yield* ask("PATCH", "/api/sandboxes", { key: two.key, body: { github_repo: output.githubRepo } })
      const { publicUrl, url } = (yield* RepoHost).supports
      for (const github_repo of [`${url}/castellan/none`, `${publicUrl}/no/where`, "https://example.org/a/b"]) {
        const other = yield* ask("PATCH", "/api/sandboxes", { key: two.key, body: { github_repo } })
        assert.deepStrictEqual([other.status, other.json], [named.status, named.json])
      }
      assert.deepStrictEqual(
        [named.status, named.json.error, named.json.reasonCode, named.json.retryAfterMs],
        [400, "github_repo must be a repository that can be read", "repository_not_found", undefined]
      )
      const list = yield* ask("GET", "/api/sandboxes", { key: two.key })
      assert.deepStrictEqual([list.json.github_repo, list.json.filetree], [null, null])
      const file = yield* ask("GET", "/api/sandboxes/file?path=README.md", { key: two.key })
      assert.deepStrictEqual([file.status, file.json.error], [404, "No GitHub repository found for this account"])
      assert.strictEqual((yield* ask("DELETE", "/api/sandboxes", { key: two.key })).status, 200)
      assert.strictEqual((yield* MemoryRepos).repos().length, 1)
      // A platform admin may assign it.
      const body = { github_repo: output.githubRepo, account_id: two.account.id }
      yield* ask("PATCH", "/api/sandboxes", { key: admin.key, body })
      assert.strictEqual((yield* ask("GET", "/api/sandboxes/file?path=README.md", { key: two.key })).status, 200)
    }).pipe(Effect.provide(api))
  )

  it.effect("can be any public repository, which is read anonymously", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      const somebody = yield* author
      const repo = new Repo({ owner: RepoOwner.make("somebody"), name: RepoName.make("public") })
      const bundle = yield* somebody.bundle({ main: yield* somebody.commit({ "docs/a.md": "public" }) })
      yield* (yield* MemoryRepos).publish(repo, bundle)
      const github_repo = `${(yield* RepoHost).supports.publicUrl}/somebody/public`
      const saved = yield* ask("PATCH", "/api/sandboxes", { key, body: { github_repo } })
      assert.deepStrictEqual([saved.status, saved.json.github_repo], [200, github_repo])
      const list = yield* ask("GET", "/api/sandboxes", { key })
      assert.deepStrictEqual(
        list.json.filetree.map(({ path, type }: any) => [type, path]),
        [
          ["tree", "docs"],
          ["blob", "docs/a.md"]
        ]
      )
      const file = yield* ask("GET", "/api/sandboxes/file?path=docs/a.md", { key })
      assert.deepStrictEqual([file.status, file.json.content], [200, "public"])
      // A public repository is not deleted.
      assert.strictEqual((yield* ask("DELETE", "/api/sandboxes", { key })).status, 200)
      assert.isTrue(yield* (yield* RepoHost).isPublic(repo))
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("is refused if its URL has credentials", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      for (const github_repo of ["no url", "", "https://user:word@example.org/a/b", "https://user@example.org/a/b"]) {
        const { json, status } = yield* ask("PATCH", "/api/sandboxes", { key, body: { github_repo } })
        assert.deepStrictEqual([status, json.error], [400, "github_repo must be a valid URL"])
      }
      assert.isNull((yield* ask("PATCH", "/api/sandboxes", { key })).json)
    }).pipe(Effect.provide(api))
  )

  it.effect("returns existing files by paths inside it", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      yield* setUp(somebody)
      const read = (path: string) =>
        Effect.map(
          ask("GET", `/api/sandboxes/file?path=${encodeURIComponent(path)}`, { key: somebody.key }),
          ({ json, status }) => [status, json.error]
        )
      assert.deepStrictEqual(yield* read("nothing.md"), [404, "File not found in repository"])
      for (const path of ["../secret", "/etc/passwd", "a//b", "a/./b", "a/", "."]) {
        assert.deepStrictEqual(yield* read(path), [400, "path must be a path in the repository"], path)
      }
      const missing = yield* ask("GET", "/api/sandboxes/file", { key: somebody.key })
      assert.deepStrictEqual([missing.status, missing.json.error], [400, "path is required"])
    }).pipe(Effect.provide(api))
  )

  it.effect("does not delay the list of sandboxes if it can't be read", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      yield* setUp(somebody)
      const { json, status } = yield* ask("GET", "/api/sandboxes", { key: somebody.key })
      assert.deepStrictEqual([status, json.filetree, json.sandboxes.length], [200, null, 1])
    }).pipe(Effect.provide(Layer.fresh(WebApi.over(sickRepos)).pipe(Layer.provideMerge(quiet))))
  )
})

/** A repository host that fails to read file trees. */
const sickRepos = Layer.effect(
  RepoHost,
  Effect.map(RepoHost, (real) => ({
    ...real,
    tree: () => Effect.fail(new RepoUnavailable({ operation: "tree", retryable: true, retryAfterMs: null }))
  }))
)

describe("Deleting an account's sandboxes, snapshot and repository", () => {
  it.effect("returns what was deleted, and may be repeated", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [somebody, other] = [yield* join(), yield* join()]
      const { key } = somebody
      const { output } = yield* setUp(somebody)
      yield* setUp(other)
      yield* ask("POST", "/api/sandboxes", { key })
      const { json, status } = yield* ask("DELETE", "/api/sandboxes", { key })
      assert.strictEqual(status, 200)
      assert.deepStrictEqual(
        [json.deleted_snapshot.snapshot_id, json.deleted_snapshot.github_repo],
        [output.snapshotId, output.githubRepo]
      )
      const after = yield* ask("GET", "/api/sandboxes", { key })
      assert.deepStrictEqual(
        after.json.sandboxes.map(({ sandboxStatus, timeout }: any) => [sandboxStatus, timeout]),
        [
          ["stopped", 0],
          ["stopped", 0]
        ]
      )
      assert.deepStrictEqual([after.json.snapshot_id, after.json.github_repo], [null, null])
      assert.strictEqual((yield* MemoryRepos).repos().length, 1)
      assert.strictEqual((yield* MemorySandboxes).snapshots().length, 1)
      assert.strictEqual((yield* MemorySandboxes).names().length, 1)
      const again = yield* ask("DELETE", "/api/sandboxes", { key })
      assert.deepStrictEqual(again.json, { status: "success", deleted_snapshot: null })
    }).pipe(Effect.provide(api))
  )

  it.effect("keeps the record and fails if the repository can't be deleted", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const somebody = yield* join()
      const { key } = somebody
      const { output } = yield* setUp(somebody)
      const { json, status } = yield* ask("DELETE", "/api/sandboxes", { key })
      assert.deepStrictEqual([status, json.error], [502, "Failed to delete GitHub repository"])
      const list = yield* ask("GET", "/api/sandboxes", { key })
      assert.deepStrictEqual([list.json.snapshot_id, list.json.github_repo], [output.snapshotId, output.githubRepo])
    }).pipe(
      Effect.provide(
        Layer.fresh(
          WebApi.over(
            Layer.effect(
              RepoHost,
              Effect.map(RepoHost, (real) => ({
                ...real,
                remove: () =>
                  Effect.fail(new RepoUnavailable({ operation: "remove", retryable: false, retryAfterMs: null }))
              }))
            )
          )
        ).pipe(Layer.provideMerge(quiet))
      )
    )
  )

  it.effect("takes the account from the body or the query, and refuses two different accounts", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [admin, one, two] = [yield* join({ platformAdmin: true }), yield* join(), yield* join()]
      yield* setUp(one)
      const both = yield* ask("DELETE", `/api/sandboxes?account_id=${one.account.id}`, {
        key: admin.key,
        body: { account_id: two.account.id }
      })
      assert.strictEqual(both.status, 400)
      const inQuery = yield* ask("DELETE", `/api/sandboxes?account_id=${one.account.id}`, { key: admin.key })
      assert.strictEqual(inQuery.json.deleted_snapshot.account_id, one.account.id)
      const spelledTwice = yield* ask("DELETE", `/api/sandboxes?account_id=${one.account.id}`, {
        key: admin.key,
        body: { account_id: one.account.id.toUpperCase() }
      })
      assert.strictEqual(spelledTwice.status, 200)
      const refused = yield* ask("DELETE", "/api/sandboxes", { key: one.key, body: { account_id: two.account.id } })
      assert.deepStrictEqual([refused.status, refused.json.error], [403, "Access denied to specified account_id"])
    }).pipe(Effect.provide(api))
  )
})
