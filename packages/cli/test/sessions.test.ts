import { Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { asSteps, Step } from "@castellan/testkit/Program.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { castellan } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

const unknown = "00000000-0000-4000-8000-000000000000"

const idIn = (stdout: string): string => /^session +(\S+)$/m.exec(stdout)![1]!

layer(WebApi.layer)("castellan session", (it) => {
  const join = Effect.flatMap(WebApi, (api) => api.join())

  /** The URL of a repository that every session may use. */
  const repository = Effect.gen(function* () {
    const host = yield* RepoHost
    const repo = new Repo({ owner: host.supports.owner, name: RepoName.make("site") })
    yield* host.ensure(repo)
    return `${host.supports.url}/${repo.owner}/${repo.name}`
  })

  /** An account with a session that has not been opened. */
  const holder = Effect.gen(function* () {
    const { key } = yield* join
    const url = yield* repository
    const said = yield* castellan(["sessions", "create", "--title", "Fix the build", "--repo", url], { key })
    const id = idIn(said.stdout)
    return { key, url, id, said, on: (verb: string, ...more: ReadonlyArray<string>) => held(key, verb, id, ...more) }
  })

  const held = (key: string, ...args: ReadonlyArray<string>) => castellan(["sessions", ...args], { key })

  it.effect("reports why it refuses a session whose repository can't be read", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const refused = yield* castellan(["sessions", "open", "--repo", "https://public.memory.test/no/where"], { key })
      assert.deepStrictEqual(
        [refused.exit, refused.stderr],
        [1, "castellan: Failed to provision sandbox: The repository does not exist, or may not be read\n"]
      )
    })
  )

  it.effect("creates and opens a session, and keeps its files during hibernation", () =>
    Effect.gen(function* () {
      const { id, on, said, url } = yield* holder
      assert.strictEqual(said.exit, 0)
      assert.match(
        said.stdout,
        new RegExp(`^session +${id}\ntitle +Fix the build\nstatus +running\nrepository +${url}\n`)
      )
      const before = yield* on("status")
      assert.match(before.stdout, /^status +no_sandbox\nstate +-\nfiles kept +no\nversion +0\n$/)
      const opened = yield* on("open", "--repo", url)
      assert.strictEqual(opened.exit, 0)
      assert.match(opened.stdout, /^branch +main\ntime left +\S+ min( \S+ s)?\nready +\d+ ms\nprovider +memory\n$/)
      const append = asSteps(Step.Append({ path: "notes.txt", text: "kept" }), Step.Exit({ code: 4 }))
      const first = yield* on("run", "--", append.command, ...append.args)
      assert.deepStrictEqual([first.exit, first.stdout, first.stderr], [4, "", ""])
      assert.deepStrictEqual((yield* on("sleep")).stdout, `${id} is hibernated\n`)
      assert.deepStrictEqual((yield* on("sleep")).stdout, `${id} was not running\n`)
      assert.match(
        (yield* on("status")).stdout,
        /^status +no_sandbox\nstate +hibernated\nfiles kept +yes\nversion +\d+\n$/
      )
      // The session has its repository's URL by now.
      assert.strictEqual((yield* on("open")).exit, 0)
      const show = asSteps(Step.PrintFile({ path: "notes.txt" }))
      assert.strictEqual((yield* on("run", "--", show.command, ...show.args)).stdout, "kept")
    })
  )

  it.effect("shows the remaining time, keeps a session awake while it is used, and extends it", () =>
    Effect.gen(function* () {
      const { id, on } = yield* holder
      yield* on("open")
      assert.match(
        (yield* on("status")).stdout,
        /^status +active\nstate +active\nhibernates in +5 min\ntime left +30 min\n/m
      )
      assert.match((yield* on("reconnect")).stdout, /^status +connected\nstate +active\ntime left +30 min\n$/)
      assert.deepStrictEqual((yield* on("activity")).stdout, `${id} is marked as in use\n`)
      const extended = yield* on("extend", "90m")
      assert.match(extended.stdout, new RegExp(`^session +${id}\nextended by +1 h 30 min\nexpires +\\d{4}-\\S+Z\n$`))
      assert.match((yield* on("reconnect")).stdout, /^time left +2 h$/m)
      const wrong = yield* on("extend", "soon")
      assert.strictEqual(wrong.exit, 2)
    })
  )

  it.effect("renames, archives and restores a session", () =>
    Effect.gen(function* () {
      const { on } = yield* holder
      yield* on("open")
      assert.match((yield* on("rename", "Ship it")).stdout, /^title +Ship it$/m)
      assert.match((yield* on("archive")).stdout, /^status +archived$/m)
      const refused = yield* on("open")
      assert.deepStrictEqual([refused.exit, refused.stderr], [6, "castellan: Session is archived\n"])
      assert.match((yield* on("unarchive")).stdout, /^status +running\n(.*\n)*state +hibernated$/m)
      assert.strictEqual((yield* on("open")).exit, 0)
      assert.match((yield* on("get")).stdout, /^title +Ship it\n(.*\n)*state +active$/m)
    })
  )

  it.effect("lists sessions newest first, one page or all", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const none = yield* held(key, "list")
      assert.deepStrictEqual([none.exit, none.stdout, none.stderr], [0, "", "castellan: no sessions\n"])
      for (const title of ["one", "two", "three"]) yield* held(key, "create", "--title", title)
      const page = yield* held(key, "list", "--limit", "2")
      assert.strictEqual(page.stdout.split("\n").length, 4)
      assert.strictEqual(page.stderr, "castellan: there are more: --all lists them all\n")
      const all = yield* held(key, "list", "--all", "--limit", "1")
      assert.match(all.stdout, /^SESSION +STATUS +SANDBOX +CREATED +TITLE\n/)
      for (const title of ["one", "two", "three"]) assert.match(all.stdout, new RegExp(` ${title}$`, "m"))
      const { stdout } = yield* held(key, "list", "--json", "--limit", "1")
      assert.strictEqual(JSON.parse(stdout).sessions.length, 1)
    })
  )

  it.effect("creates an ephemeral sandbox that is not listed as a session", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const url = yield* repository
      const opened = yield* held(key, "open", "--repo", url)
      assert.match(opened.stdout, /^branch +main\n/)
      assert.strictEqual((yield* held(key, "list")).stdout, "")
      const json = yield* held(key, "open", "--repo", url, "--json")
      assert.sameMembers(Object.keys(JSON.parse(json.stdout)), [
        "createdAt",
        "currentBranch",
        "mode",
        "timeout",
        "timing"
      ])
      const nothing = yield* held(key, "open")
      assert.strictEqual(nothing.exit, 2)
      assert.match(nothing.stderr, /^castellan: name a session to open, or use --repo URL/)
      const elsewhere = yield* held(key, "open", "--repo", "https://example.org/a/b")
      assert.deepStrictEqual(
        [elsewhere.exit, elsewhere.stderr],
        [1, "castellan: repoUrl must be a valid GitHub repository URL\n"]
      )
    })
  )

  it.effect("reports a missing repository, and how to wake a hibernated session", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const id = idIn((yield* held(key, "create")).stdout)
      const unbound = yield* held(key, "open", id)
      assert.deepStrictEqual(
        [unbound.exit, unbound.stderr],
        [2, `castellan: ${id} has no repository yet: open it with --repo URL\n`]
      )
      const asleep = yield* held(key, "run", id, "--", "true")
      assert.deepStrictEqual(
        [asleep.exit, asleep.stderr],
        [6, `castellan: resume it with: castellan sessions open ${id}\ncastellan: Sandbox is not running\n`]
      )
      const bare = yield* held(key, "run", id)
      assert.strictEqual(bare.exit, 2)
    })
  )

  it.effect("starts a command with --no-follow, and prints the API's response with --json", () =>
    Effect.gen(function* () {
      const { key, on } = yield* holder
      yield* on("open")
      const left = yield* on("run", "--no-follow", "--", "sleep", "1000")
      assert.match(left.stdout, /^run_\w+\n$/)
      const { stdout } = yield* on("run", "--json", "--", "true")
      assert.sameMembers(Object.keys(JSON.parse(stdout)), ["status", "runId"])
      assert.strictEqual((yield* castellan(["runs", "cancel", left.stdout.trim()], { key })).exit, 0)
    })
  )

  it.effect("acts for the organizations of the caller only", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const stranger = yield* join
      const made = yield* castellan(["orgs", "create", "Analytical Engines", "--json"], { key })
      const { id } = JSON.parse(made.stdout).organization
      const mine = yield* held(key, "create", "--org", id)
      assert.match(mine.stdout, new RegExp(`^organization +${id}$`, "m"))
      const other = yield* held(stranger.key, "create", "--org", id)
      assert.deepStrictEqual([other.exit, other.stderr], [3, "castellan: Access denied to specified organization_id\n"])
    })
  )

  it.effect("refuses the session of another account", () =>
    Effect.gen(function* () {
      const { id, url } = yield* holder
      const stranger = yield* join
      const tries = [
        ["get"],
        ["open", "--repo", url],
        ["open"],
        ["status"],
        ["reconnect"],
        ["activity"],
        ["extend", "1h"],
        ["sleep"],
        ["archive"],
        ["unarchive"],
        ["rename", "mine"],
        ["run", "echo"]
      ]
      for (const [verb, ...more] of tries) {
        const said = yield* held(stranger.key, verb!, id, ...more)
        assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [3, "", "castellan: Forbidden\n"], verb)
        const missing = yield* held(stranger.key, verb!, unknown, ...more)
        assert.deepStrictEqual(
          [missing.exit, missing.stdout, missing.stderr],
          [4, "", "castellan: Session not found\n"],
          verb
        )
      }
    })
  )
})
