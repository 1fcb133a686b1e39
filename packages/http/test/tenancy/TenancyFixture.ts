/** Two organizations, callers of every kind, and the things of a member of the first and of the organization itself. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccessPolicy } from "@castellan/domain/identity/AccessRule.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { assert } from "@effect/vitest"
import { Context, DateTime, Effect, Layer, Logger } from "effect"
import { SecureRandom } from "effect/crypto"
import { TestClock } from "effect/testing"
import { type Answer, WebApi } from "../WebApi.ts"
import {
  type Caller,
  callers,
  credentialsUnclear,
  type Refusal,
  sharedRepo,
  type Target,
  type Thing,
  unauthorized
} from "./expectations.ts"
import { urlOf, type ApiRequest } from "./operations.ts"

export type Things = Readonly<Record<Thing, string>>

export interface Person {
  readonly id: string
  readonly key: string
}

/** Invalid credentials, and the errors for them. */
export interface Anonymous {
  readonly name: string
  readonly headers: Readonly<Record<string, string>>
  readonly told: Refusal
}

/** The fields of an error body. */
const errorFields = ["status", "success", "error", "code", "detail", "missing_fields", "retryAfterMs"]

/** What no error body may contain. */
const insides = /node_modules|\.ts\b|\bat .+:\d+|\/(home|work|tmp|var|usr)\/|Error:/

const never = (): string => SecureRandom.uuidV4Unsafe()
const random20 = () => never().replaceAll("-", "").slice(0, 20)

/** Well-formed ids of nothing. */
export const unknownThings = (): Things & { readonly account: string } => ({
  account: never(),
  organization: never(),
  newcomer: never(),
  sandbox: `sbx_${random20()}`,
  session: never(),
  run: `run_${random20()}`,
  liveRun: `run_${random20()}`,
  apiKey: `key_${random20()}`,
  snapshot: `snap_${random20()}`,
  app: `app-${random20()}`
})

/** A response without what differs between equal responses. */
export const comparable = ({ headers, status, text }: Answer) => ({
  status,
  text,
  headers: [...headers].filter(([name]) => name !== "x-request-id" && name !== "date")
})

const make = Effect.gen(function* () {
  const api = yield* WebApi
  const sandboxes = yield* MemorySandboxes
  const repos = yield* MemoryRepos
  const events = yield* EventStore
  const { name, owner: serviceOwner } = sharedRepo
  yield* (yield* RepoHost).ensure(new Repo({ owner: RepoOwner.make(serviceOwner), name: RepoName.make(name) }))

  /** Ids and keys that no error may contain, nor a response to callers without access. */
  const hidden = new Set<string>()

  const ask = Effect.fnUntraced(function* (key: string, method: string, path: string, body?: unknown) {
    const answer = yield* api.ask(method, path, { key, body })
    assert.isBelow(answer.status, 300, `${method} ${path}: ${answer.text}`)
    return answer.json
  })

  const join = (platformAdmin = false) =>
    Effect.map(api.join({ platformAdmin }), ({ account, key }): Person => {
      hidden.add(account.id).add(key)
      return { id: account.id, key }
    })

  const people = {} as Record<Caller, Person>
  for (const name of callers) people[name] = yield* join(name === "platformAdmin")
  const { admin, invited, member, otherMember, otherOwner, owner, platformAdmin, removed, victim } = people

  const found = Effect.fnUntraced(function* (by: Person, name: string) {
    const { organization } = yield* ask(by.key, "POST", "/api/organizations", { name })
    hidden.add(organization.id)
    return organization.id as string
  })

  const invite = (organization: string, by: Person, who: Person, role = "member") =>
    ask(by.key, "POST", `/api/organizations/${organization}/members`, { accountId: who.id, role })

  const enroll = Effect.fnUntraced(function* (organization: string, by: Person, who: Person, role = "member") {
    yield* invite(organization, by, who, role)
    yield* ask(who.key, "POST", `/api/organizations/${organization}/members/accept`)
  })

  const dismiss = (organization: string, by: Person, who: Person) =>
    ask(by.key, "DELETE", `/api/organizations/${organization}/members/${who.id}`)

  const organization = yield* found(owner, "Analytical Engines")
  const other = yield* found(otherOwner, "Difference Engines")
  yield* enroll(other, otherOwner, otherMember)
  yield* enroll(organization, owner, admin, "admin")
  yield* enroll(organization, admin, member)
  yield* enroll(organization, admin, victim)
  yield* enroll(organization, admin, removed, "admin")
  yield* dismiss(organization, owner, removed)
  yield* invite(organization, admin, invited)

  /** Makes the invited account invited again. */
  const inviteAgain = Effect.andThen(dismiss(organization, owner, invited), invite(organization, owner, invited))

  const accounts: Record<Target, string> = { victim: victim.id, organization }
  /** The caller that sees everything of the account: itself, or for an organization a platform admin. */
  const keeper = (account: string) => (account === victim.id ? victim : platformAdmin)

  const statusOf = (by: Person, account: string, run: string) =>
    Effect.map(
      ask(by.key, "GET", `/api/tasks/runs?runId=${run}&account_id=${account}`),
      ({ runs }) => runs[0].status as string
    )

  const until = Effect.fnUntraced(function* (by: Person, account: string, run: string, status: string) {
    while ((yield* statusOf(by, account, run)) !== status) yield* Effect.yieldNow
  })

  /** Gives the account a repository and a snapshot if it has none. */
  const setUp = Effect.fnUntraced(function* (account: string) {
    const by = keeper(account)
    const { github_repo } = yield* ask(by.key, "GET", `/api/sandboxes?limit=1&account_id=${account}`)
    if (github_repo !== null) return
    const { runId } = yield* ask(by.key, "POST", "/api/sandboxes/setup", { account_id: account })
    yield* until(by, account, runId, "COMPLETED")
  })

  /** One of each thing of the account, in a state that permits every operation. */
  const thingsOf = Effect.fnUntraced(function* (account: string) {
    const by = keeper(account)
    const at = `account_id=${account}`
    yield* setUp(account)
    const { sandboxes } = yield* ask(by.key, "POST", "/api/sandboxes", {
      account_id: account,
      command: "echo",
      args: ["printed"]
    })
    const { runId: run, sandboxId: sandbox } = sandboxes[0]
    const inside = `/api/sandboxes/${sandbox}`
    yield* api.ask("PUT", `${inside}/file?path=notes.txt&${at}`, {
      key: by.key,
      body: "notes",
      headers: { "content-type": "application/octet-stream" }
    })
    const { runId: liveRun } = yield* ask(by.key, "POST", `${inside}/commands?${at}`, {
      command: "sleep",
      args: ["1000"]
    })
    const { snapshotId: snapshot } = yield* ask(by.key, "POST", `${inside}/snapshot?${at}`)
    const { id: session } = (yield* ask(by.key, "POST", "/api/sessions", { repoUrl: sharedRepo.url })).session
    yield* ask(by.key, "POST", "/api/sandbox", { repoUrl: sharedRepo.url, sessionId: session })
    const { id: apiKey, key } = yield* ask(by.key, "POST", "/api/keys", { account_id: account, name: "a key" })
    const { sandboxId: app } = yield* ask(by.key, "POST", "/api/sandbox/create")
    const newcomer = (yield* join()).id
    yield* until(by, account, run, "COMPLETED")
    yield* until(by, account, liveRun, "EXECUTING")
    for (const secret of [sandbox, session, run, liveRun, snapshot, app, apiKey, key]) hidden.add(secret)
    const things: Things = { sandbox, session, run, liveRun, snapshot, app, apiKey, organization, newcomer }
    return things
  })

  const things = { victim: yield* thingsOf(accounts.victim), organization: yield* thingsOf(accounts.organization) }

  /** Everything of the targets that the API shows. */
  const state = Effect.gen(function* () {
    const seen: Array<unknown> = [
      sandboxes.names(),
      sandboxes.snapshots(),
      repos.repos().map((repo) => [repo.name, repos.commit(repo)?.id]),
      yield* ask(platformAdmin.key, "GET", `/api/organizations/${organization}/members`),
      yield* ask(victim.key, "GET", "/api/organizations")
    ]
    for (const target of ["victim", "organization"] as const) {
      const account = accounts[target]
      const { key } = keeper(account)
      const { sandbox, session } = things[target]
      seen.push(
        yield* ask(key, "GET", `/api/sandboxes?account_id=${account}`),
        yield* ask(key, "GET", `/api/tasks/runs?limit=100&account_id=${account}`),
        yield* ask(key, "GET", `/api/keys?account_id=${account}`),
        yield* ask(key, "GET", `/api/sandboxes/${sandbox}/files?recursive=1&account_id=${account}`),
        yield* ask(key, "GET", `/api/sessions/${session}`),
        yield* ask(key, "GET", "/api/sandbox/status"),
        yield* ask(key, "GET", "/api/sandbox/files?contents=1"),
        yield* ask(key, "GET", "/api/sessions?limit=100"),
        yield* events.read(AccountScope.ofOwner({ account: AccountId.make(account) }), null, 10_000)
      )
    }
    return seen
  })

  const send = Effect.fnUntraced(function* (headers: Readonly<Record<string, string>>, wanted: ApiRequest) {
    const answer = yield* (wanted.endless ? api.askEndless : api.ask)(wanted.method, urlOf(wanted), {
      body: wanted.body,
      headers: { ...headers, ...wanted.headers }
    })
    if (answer.status < 400) return answer
    const about = `${wanted.method} ${wanted.path}: ${answer.text}`
    assert.include(answer.headers.get("content-type"), "application/json", about)
    const { code, error, status, success, ...more } = answer.json
    assert.deepStrictEqual([status, success, typeof error, typeof code], ["error", false, "string", "string"], about)
    assert.isTrue(
      Object.keys(more).every((name) => errorFields.includes(name)),
      about
    )
    assert.notMatch(answer.text, insides, about)
    const told = [...hidden].filter((secret) => answer.text.includes(secret))
    assert.deepStrictEqual(told, [], about)
    return answer
  })

  const calls = () => sandboxes.calls() + repos.calls()

  /** Sends the request, and asserts that it reached neither the sandbox provider nor the repository host. */
  const sendRefused = Effect.fnUntraced(function* (headers: Readonly<Record<string, string>>, wanted: ApiRequest) {
    const before = calls()
    const answer = yield* send(headers, wanted)
    assert.strictEqual(calls(), before, `${wanted.method} ${wanted.path} asked a provider`)
    return answer
  })

  const issued = (more: object) => ask(victim.key, "POST", "/api/keys", { name: "no longer good", ...more })
  const revoked = yield* issued({})
  yield* ask(victim.key, "DELETE", `/api/keys/${revoked.id}`)
  const expired = yield* issued({ expiresAt: DateTime.formatIso(DateTime.add(yield* DateTime.now, { seconds: 1 })) })
  yield* TestClock.adjust("1 second")
  hidden.add(revoked.key).add(expired.key)
  const unknown = victim.key.replace(/.{4}$/, "0000")

  const anonymous: ReadonlyArray<Anonymous> = [
    { name: "nobody", headers: {}, told: credentialsUnclear },
    {
      name: "who brings two credentials",
      headers: { "x-api-key": victim.key, authorization: `Bearer ${victim.key}` },
      told: credentialsUnclear
    },
    { name: "an unknown key", headers: { "x-api-key": unknown }, told: unauthorized },
    { name: "an unknown key as a token", headers: { authorization: `Bearer ${unknown}` }, told: unauthorized },
    { name: "a token of no provider", headers: { authorization: "Bearer aaa.bbb.ccc" }, told: unauthorized },
    { name: "a revoked key", headers: { "x-api-key": revoked.key }, told: unauthorized },
    { name: "an expired key", headers: { "x-api-key": expired.key }, told: unauthorized }
  ]

  return {
    people,
    accounts,
    things,
    anonymous,
    other: { account: otherMember.id, organization: other },
    as: (caller: Caller) => ({ "x-api-key": people[caller].key }),
    join,
    enroll: (who: Person, role?: string) => enroll(organization, owner, who, role),
    dismiss: (who: Person) => dismiss(organization, owner, who),
    inviteAgain,
    thingsOf,
    state,
    send,
    sendRefused,
    /** What callers outside of the organization must not read anywhere. */
    secrets: () => [...hidden]
  }
})

export class TenancyFixture extends Context.Service<TenancyFixture, Effect.Success<typeof make>>()(
  "http/test/tenancy/TenancyFixture"
) {
  static readonly layer = (access: AccessPolicy) =>
    Layer.effect(TenancyFixture, make).pipe(
      Layer.provideMerge(WebApi.layerWith({ access, limits: { requests: 1_000_000, creates: 1_000_000 } })),
      Layer.provideMerge(Logger.layer([]))
    )
}
