/** GitHub's emulator, tested with git and fetch. */
import { type Emulator, start } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { execFile } from "node:child_process"
import { randomBytes } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"

const owner = "castellan-repos"

interface Site extends Emulator {
  /** A directory for clones. */
  readonly directory: string
  readonly git: (...args: ReadonlyArray<string>) => Promise<string>
  readonly ask: (path: string, init?: RequestInit & { readonly as?: string | null }) => Promise<Response>
  readonly remote: (name: string, token?: string) => string
}

const site = (options: Parameters<typeof start>[0] = {}): Effect.Effect<Site, never, Scope.Scope> =>
  Effect.gen(function* () {
    const github = yield* start(options)
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "castellan-clones-"))),
      (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
    )
    const env = {
      PATH: "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
      HOME: directory,
      LC_ALL: "C",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_TERMINAL_PROMPT: "0",
      GIT_AUTHOR_NAME: "author",
      GIT_AUTHOR_EMAIL: "author@example.com",
      GIT_COMMITTER_NAME: "author",
      GIT_COMMITTER_EMAIL: "author@example.com"
    }
    return {
      ...github,
      directory,
      git: async (...args) => (await promisify(execFile)("git", args, { cwd: directory, env })).stdout,
      ask: (path, { as = github.token, ...init } = {}) =>
        fetch(github.apiUrl + path, {
          ...init,
          headers: { ...(as === null ? {} : { authorization: `Bearer ${as}` }), ...init.headers }
        }),
      remote: (name, token = github.token) =>
        `${github.url.replace("://", `://x-access-token:${token}@`)}/${owner}/${name}.git`
    }
  })

const create = (name: string, more: object = {}) => ({
  method: "POST",
  body: JSON.stringify({ name, private: true, ...more })
})

const tested = (name: string, test: (github: Site) => Promise<void>, options: Parameters<typeof start>[0] = {}) =>
  it.live(name, () => Effect.scoped(Effect.flatMap(site(options), (github) => Effect.promise(() => test(github)))))

/** Creates a repository and pushes files to it with git. */
const filled = async (github: Site, files: Record<string, string>) => {
  await github.ask(`/orgs/${owner}/repos`, create("one"))
  const clone = join(github.directory, "one")
  await github.git("clone", "--quiet", github.remote("one"), "one")
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(clone, file)), { recursive: true })
    if (text.startsWith("-> ")) symlinkSync(text.slice(3), join(clone, file))
    else writeFileSync(join(clone, file), text)
  }
  await github.git("-C", "one", "add", "--all")
  await github.git("-C", "one", "commit", "--quiet", "-m", "files")
  await github.git("-C", "one", "push", "--quiet", "origin", "HEAD:main")
}

describe("GitHub's emulator", () => {
  tested("serves clone, fetch and push to git, with plain, chunked and compressed bodies", async (github) => {
    await filled(github, { small: "1", large: randomBytes(2_000_000).toString("base64") })
    await github.git("clone", "--quiet", github.remote("one"), "again")
    assert.strictEqual(
      await github.git("-C", "again", "rev-parse", "HEAD"),
      await github.git("-C", "one", "rev-parse", "HEAD")
    )
    assert.strictEqual((await github.git("-C", "again", "symbolic-ref", "--short", "HEAD")).trim(), "main")
    // Many unknown commits before the common one make git compress its request.
    for (let n = 0; n < 40; n++) await github.git("-C", "again", "commit", "--quiet", "--allow-empty", "-m", `${n}`)
    await github.git("-C", "one", "commit", "--quiet", "--allow-empty", "-m", "more")
    await github.git("-C", "one", "push", "--quiet", "origin", "HEAD:main")
    await github.git("-C", "again", "fetch", "--quiet", "--negotiation-tip=main")
    const head = await github.git("-C", "one", "rev-parse", "HEAD")
    assert.strictEqual(await github.git("-C", "again", "rev-parse", "origin/main"), head)
    const has = (header: string, value: string) => github.requests.some(({ headers }) => headers[header] === value)
    assert.isTrue(has("content-encoding", "gzip"))
    assert.isTrue(has("transfer-encoding", "chunked"))
    assert.isTrue(has("git-protocol", "version=2"))
  })

  tested("requests a credential from git when one is needed, and refuses a wrong one", async (github) => {
    await filled(github, { file: "1" })
    await github.ask(`/orgs/${owner}/repos`, create("public", { private: false }))
    github.addToken("reading-token", "read")
    const refs = (name: string, service = "git-upload-pack", token?: string) =>
      fetch(`${github.url}/${owner}/${name}.git/info/refs?service=${service}`, {
        headers: token === undefined ? {} : { authorization: `Basic ${btoa(`x-access-token:${token}`)}` }
      })
    const asked = await refs("one")
    assert.deepStrictEqual([asked.status, asked.headers.get("www-authenticate")], [401, 'Basic realm="GitHub"'])
    assert.strictEqual((await refs("nothing")).status, 401)
    assert.strictEqual((await refs("one", "git-upload-pack", "wrong")).status, 401)
    assert.strictEqual((await refs("nothing", "git-upload-pack", github.token)).status, 404)
    assert.strictEqual((await refs("public")).status, 200)
    assert.strictEqual((await refs("public", "git-receive-pack")).status, 401)
    assert.strictEqual((await refs("one", "git-upload-pack", "reading-token")).status, 200)
    assert.strictEqual((await refs("one", "git-receive-pack", "reading-token")).status, 403)
    assert.strictEqual((await refs("one", "git-receive-pack", github.token)).status, 200)
  })

  tested("creates, shows and deletes repositories with GitHub's responses", async (github) => {
    const made = await github.ask(`/orgs/${owner}/repos`, create("One"))
    assert.strictEqual(made.status, 201)
    const body = (await made.json()) as Record<string, unknown>
    assert.deepInclude(body, {
      name: "One",
      full_name: `${owner}/One`,
      private: true,
      visibility: "private",
      default_branch: "main",
      clone_url: `${github.url}/${owner}/One.git`,
      permissions: { admin: true, maintain: true, push: true, triage: true, pull: true }
    })
    assert.strictEqual(made.headers.get("location"), body["url"])
    const again = await github.ask(`/orgs/${owner}/repos`, create("one"))
    assert.strictEqual(again.status, 422)
    assert.deepInclude(await again.json(), {
      message: "Repository creation failed.",
      errors: [
        { resource: "Repository", code: "custom", field: "name", message: "name already exists on this account" }
      ],
      status: "422"
    })
    github.addToken("reading-token", "read")
    for (const [as, status] of [
      [null, 404],
      ["wrong", 401],
      ["reading-token", 200],
      [github.token, 200]
    ] as const) {
      assert.strictEqual((await github.ask(`/repos/${owner}/oNE`, { as })).status, status)
    }
    assert.deepInclude(await (await github.ask("/user", { as: "wrong" })).json(), { message: "Bad credentials" })
    const method = "DELETE"
    assert.strictEqual((await github.ask(`/repos/${owner}/One`, { method, as: "reading-token" })).status, 403)
    assert.strictEqual((await github.ask(`/repos/${owner}/One`, { method })).status, 204)
    assert.strictEqual((await github.ask(`/repos/${owner}/One`, { method })).status, 404)
    const users = await github.ask("/user/repos", create("mine"))
    assert.strictEqual(((await users.json()) as { full_name: string }).full_name, `${github.user}/mine`)
    assert.strictEqual((await github.ask(`/orgs/${github.user}/repos`, create("mine"))).status, 404)
  })

  tested("describes contents as GitHub does", async (github) => {
    await filled(github, { "a/file": "in a", link: "-> a/file", nowhere: "-> nothing" })
    const sub = ["update-index", "--add", "--cacheinfo", `160000,${"1".repeat(40)},sub`]
    await github.git("-C", "one", ...sub)
    await github.git("-C", "one", "commit", "--quiet", "-m", "sub")
    await github.git("-C", "one", "push", "--quiet", "origin", "HEAD:main")
    const raw = { headers: { accept: "application/vnd.github.raw+json" } }
    const at = (path: string, init = {}) => github.ask(`/repos/${owner}/one/contents/${path}`, init)
    const json = async (path: string, init = {}) => (await at(path, init)).json() as Promise<Record<string, unknown>>
    assert.deepInclude(await json("a/file"), {
      type: "file",
      encoding: "base64",
      content: `${btoa("in a")}\n`,
      size: 4
    })
    assert.strictEqual(await (await at("a/file", raw)).text(), "in a")
    assert.match((await at("a/file", raw)).headers.get("content-type")!, /^application\/vnd\.github\.raw/)
    assert.strictEqual(await (await at("link", raw)).text(), "in a")
    assert.deepInclude(await json("nowhere", raw), { type: "symlink", target: "nothing" })
    assert.deepInclude(await json("sub", raw), { type: "submodule", sha: "1".repeat(40) })
    const listing = (await json("", raw)) as unknown as ReadonlyArray<{ name: string; type: string }>
    assert.deepStrictEqual(
      listing.map(({ name, type }) => [name, type]),
      [
        ["a", "dir"],
        ["link", "symlink"],
        ["nowhere", "symlink"],
        ["sub", "file"]
      ]
    )
    assert.strictEqual((await at("a/nothing", raw)).status, 404)
    const commit = (await (await github.ask(`/repos/${owner}/one/commits/main`)).json()) as {
      commit: { message: string }
    }
    assert.strictEqual(commit.commit.message, "sub")
  })

  tested(
    "truncates trees that are recursive, and only those",
    async (github) => {
      await filled(github, { "a/b": "1", "a/c": "22", d: "333" })
      const tree = async (query: string) =>
        (await (await github.ask(`/repos/${owner}/one/git/trees/main${query}`)).json()) as {
          readonly sha: string
          readonly truncated: boolean
          readonly tree: ReadonlyArray<{ readonly path: string; readonly size?: number; readonly mode: string }>
        }
      const whole = await tree("")
      assert.isFalse(whole.truncated)
      assert.strictEqual(whole.sha, (await github.git("-C", "one", "rev-parse", "HEAD^{tree}")).trim())
      assert.deepStrictEqual(
        whole.tree.map(({ mode, path, size }) => [mode, path, size]),
        [
          ["040000", "a", undefined],
          ["100644", "d", 3]
        ]
      )
      const part = await tree("?recursive=1")
      assert.isTrue(part.truncated)
      assert.deepStrictEqual(
        part.tree.map(({ path }) => path),
        ["a", "a/b", "a/c"]
      )
    },
    { treeLimit: 3 }
  )

  tested("responds for an empty repository with GitHub's errors", async (github) => {
    await github.ask(`/orgs/${owner}/repos`, create("one"))
    for (const [path, status, message] of [
      ["git/trees/HEAD", 409, "Git Repository is empty."],
      ["commits/HEAD", 409, "Git Repository is empty."],
      ["contents/file", 404, "This repository is empty."]
    ] as const) {
      const answer = await github.ask(`/repos/${owner}/one/${path}`)
      assert.strictEqual(answer.status, status)
      assert.deepInclude(await answer.json(), { message, status: String(status) })
    }
  })

  tested("responds with 304 to a known tag, without counting the request", async (github) => {
    await filled(github, { file: "1" })
    const path = `/repos/${owner}/one/git/trees/HEAD`
    const first = await github.ask(path)
    const tag = first.headers.get("etag")!
    const same = await github.ask(path, { headers: { "if-none-match": tag } })
    assert.deepStrictEqual([same.status, await same.text(), same.headers.get("etag")], [304, "", tag])
    const used = (answer: Response) => answer.headers.get("x-ratelimit-used")
    assert.strictEqual(used(same), used(first))
    await github.git("-C", "one", "commit", "--quiet", "--allow-empty", "-m", "again")
    writeFileSync(join(github.directory, "one", "file"), "2")
    await github.git("-C", "one", "commit", "--quiet", "--all", "-m", "again")
    await github.git("-C", "one", "push", "--quiet", "origin", "HEAD:main")
    assert.strictEqual((await github.ask(path, { headers: { "if-none-match": tag } })).status, 200)
  })

  tested("makes the branch that is pushed first the default branch", async (github) => {
    await github.ask(`/orgs/${owner}/repos`, create("one"))
    await github.git("init", "--quiet", "one")
    await github.git("-C", "one", "commit", "--quiet", "--allow-empty", "-m", "1")
    await github.git("-C", "one", "push", "--quiet", github.remote("one"), "HEAD:trunk")
    const body = (await (await github.ask(`/repos/${owner}/one`)).json()) as { default_branch: string }
    assert.strictEqual(body.default_branch, "trunk")
    await github.git("-C", "one", "push", "--quiet", github.remote("one"), "HEAD:main")
    const head = await readFile(join(github.repositoryDirectory(owner, "one")!, "HEAD"), "utf8")
    assert.strictEqual(head, "ref: refs/heads/trunk\n")
  })
})
