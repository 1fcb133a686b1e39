import type { AccessPolicy } from "@castellan/domain/identity/AccessRule.ts"
import { assert, describe, it, layer, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import type { Answer } from "../WebApi.ts"
import { TenancyFixture, comparable, unknownThings } from "./TenancyFixture.ts"
import {
  accessDenied,
  type Caller,
  callers,
  expectations,
  forbidden,
  type Refusal,
  type Target,
  targets,
  unknownAccountId
} from "./expectations.ts"
import { declaredIds, direct, malformed, operations, takesAccount, takesIdempotencyKey, through } from "./operations.ts"
import type { Operation, ApiRequest } from "./operations.ts"

describe("Every operation", () => {
  it("has an entry in the expectations, and every entry has an operation", () => {
    assert.deepStrictEqual(Object.keys(expectations).toSorted(), declaredIds.toSorted())
  })
})

/** The owners whose things the operation is tested with; one is enough if it takes no account. */
const targetsOf = (operation: Operation): ReadonlyArray<Target> => (takesAccount(operation) ? targets : ["victim"])

/** An id in capital letters, which is the same only for a UUID. */
const inCapitals = (wanted: ApiRequest): ApiRequest => {
  const shout = <A>(record: A): A =>
    Object.fromEntries(
      Object.entries(record as object).map(([name, value]) => [
        name,
        typeof value === "string" && /^[0-9a-f]{8}-/.test(value) ? value.toUpperCase() : value
      ])
    ) as A
  const { body, params, query } = wanted
  return { ...wanted, params: shout(params), query: shout(query), body: typeof body === "object" ? shout(body) : body }
}

const assertTold = ({ json, status }: Answer, { body, status: expected }: Refusal, about: string) => {
  // The other fields of a list are the caller's own.
  const told = expected < 400 ? { status: json.status, sandboxes: json.sandboxes } : json
  assert.deepStrictEqual([status, told], [expected, body], about)
}

const sweep = (policy: AccessPolicy) => (it: Vitest.MethodsNonLive<TenancyFixture>) => {
  const isLet = ({ expected }: Operation, target: Target, caller: Caller) =>
    expected.who.allowed(policy, target).includes(caller)
  const denied = (operation: Operation, target: Target) => callers.filter((caller) => !isLet(operation, target, caller))

  it.effect("is refused to callers without access, and changes nothing", () =>
    Effect.gen(function* () {
      const { accounts, anonymous, as, sendRefused, state, things } = yield* TenancyFixture
      let before = yield* state
      for (const operation of operations) {
        const { expected, id } = operation
        const { foreignIdResponse, who } = expected
        for (const target of targetsOf(operation)) {
          for (const wanted of through(operation, things[target], accounts[target])) {
            for (const { headers, name, told } of who.isPublic ? [] : anonymous) {
              assertTold(yield* sendRefused(headers, wanted), told, `${id} by ${name}`)
            }
            for (const caller of denied(operation, target)) {
              const spelled = caller === "stranger" ? inCapitals(wanted) : wanted
              assertTold(yield* sendRefused(as(caller), spelled), who.refusalFor(caller), `${id} by ${caller}`)
            }
          }
          if (foreignIdResponse === undefined) continue
          for (const caller of callers.filter((caller) => caller !== target)) {
            const answer = yield* sendRefused(as(caller), direct(operation, things[target]))
            assertTold(answer, foreignIdResponse, `${id} by ${caller} for its own account`)
          }
        }
        const after = yield* state
        assert.deepStrictEqual(after, before, id)
        before = after
      }
    })
  )

  it.effect("lists only the caller's own if it is a list", () =>
    Effect.gen(function* () {
      const { as, people, secrets, send } = yield* TenancyFixture
      for (const { id, method, path } of operations.filter(({ id }) => id.endsWith(".list"))) {
        const all = { method, path, params: {}, query: {}, body: undefined, headers: {}, endless: false }
        const answer = yield* send(as("stranger"), all)
        assert.strictEqual(answer.status, 200, id)
        for (const secret of secrets()) if (secret !== people.stranger.id) assert.notInclude(answer.text, secret, id)
      }
    })
  )

  it.effect("answers a foreign id like an unknown one", () =>
    Effect.gen(function* () {
      const { accounts, as, other, send, things, thingsOf } = yield* TenancyFixture
      const foreign = yield* thingsOf(other.account)
      const same = Effect.fnUntraced(function* (
        caller: Caller,
        some: ReadonlyArray<ApiRequest>,
        others: ReadonlyArray<ApiRequest>,
        about: string
      ) {
        for (const [index, wanted] of some.entries()) {
          const [one, two] = [yield* send(as(caller), wanted), yield* send(as(caller), others[index]!)]
          assert.deepStrictEqual(comparable(one), comparable(two), `${about} by ${caller}`)
        }
      })
      for (const operation of operations) {
        const { expected, id } = operation
        const names = [...new Set(Object.values(expected.idFields ?? {}))]
        for (const target of targetsOf(operation)) {
          const [known, account, unknown] = [things[target], accounts[target], unknownThings()]
          const asked = through(operation, known, account)
          for (const caller of denied(operation, target)) {
            if (takesAccount(operation)) {
              yield* same(caller, asked, through(operation, known, unknown.account), `${id} for an account`)
            }
            for (const name of target === "victim" ? names : []) {
              // A member knows of its organization.
              if (name === "organization" && expected.who.refusalFor(caller) === forbidden) continue
              const others = through(operation, { ...known, [name]: unknown[name] }, account)
              if (expected.unknownIdResponse !== undefined) {
                for (const wanted of others) {
                  assertTold(
                    yield* send(as(caller), wanted),
                    expected.unknownIdResponse,
                    `${id} of a ${name} by ${caller}`
                  )
                }
                continue
              }
              yield* same(caller, asked, others, `${id} of a ${name}`)
            }
          }
          if (expected.foreignIdResponse === undefined || target !== "victim") continue
          const none = { ...known, ...unknown }
          for (const caller of callers.filter((caller) => caller !== target)) {
            yield* same(caller, [direct(operation, known)], [direct(operation, none)], `${id} for its own account`)
          }
          // Who acts for one account does not reach another's things through it.
          for (const caller of expected.who.allowed(policy, target)) {
            const reaching = through(operation, foreign, account)
            yield* same(caller, reaching, through(operation, none, account), `${id} through an account`)
            const answer = yield* send(as(caller), reaching[0]!)
            assertTold(answer, expected.foreignIdResponse, `${id} through an account by ${caller}`)
          }
        }
      }
    })
  )

  it.effect("grants access to one account only if the caller may act for it", () =>
    Effect.gen(function* () {
      const { as, other, people, sendRefused, things } = yield* TenancyFixture
      const { invited, removed, stranger } = people
      const others = [other.account, other.organization, invited.id, removed.id, stranger.id]
      for (const operation of operations.filter(takesAccount)) {
        for (const caller of operation.expected.who.allowed(policy, "victim")) {
          for (const account of [unknownThings().account, ...(caller === "platformAdmin" ? [] : others)]) {
            for (const wanted of through(operation, things.victim, account)) {
              assertTold(yield* sendRefused(as(caller), wanted), accessDenied, `${operation.id} by ${caller}`)
            }
          }
        }
      }
    })
  )

  it.effect("refuses account_id as an unknown field if it is about a session", () =>
    Effect.gen(function* () {
      const { accounts, as, sendRefused, state, things } = yield* TenancyFixture
      const before = yield* state
      for (const operation of operations.filter(({ expected }) => expected.idFields !== undefined)) {
        const { expected, fields, id } = operation
        if (!Object.values(expected.idFields!).includes("session")) continue
        assert.isFalse(takesAccount(operation), id)
        const plain = direct(operation, things.victim)
        const account_id = accounts.victim
        const inQuery = { ...plain, query: { ...plain.query, account_id } }
        const inBody = fields === undefined ? [] : [{ ...plain, body: { ...(plain.body as object), account_id } }]
        for (const wanted of [inQuery, ...inBody]) {
          for (const caller of ["platformAdmin", "owner", "member", "stranger"] as const) {
            const told = operation.isLenient ? forbidden : unknownAccountId
            assertTold(yield* sendRefused(as(caller), wanted), told, `${id} by ${caller}`)
          }
        }
      }
      assert.deepStrictEqual(yield* state, before)
    })
  )

  it.effect("checks the credential, then the request's shape, then the ownership", () =>
    Effect.gen(function* () {
      const { accounts, anonymous, as, sendRefused, things } = yield* TenancyFixture
      for (const operation of operations.filter(({ expected }) => expected.who.isPublic === undefined)) {
        const [wanted] = through(operation, things.victim, accounts.victim)
        for (const [wrong, request] of malformed(operation, wanted!)) {
          const about = `${operation.id}, ${wrong}`
          for (const { headers, told } of [anonymous[0]!, anonymous[2]!]) {
            assertTold(yield* sendRefused(headers, request), told, about)
          }
          const answer = yield* sendRefused(as("stranger"), request)
          assert.strictEqual(answer.status, wrong === "the body is text" ? 415 : 400, `${about}: ${answer.text}`)
          assert.include(["invalid_request", "invalid_json", "unsupported_media_type"], answer.json.code, about)
          if (wrong === "account_id is no UUID") {
            assert.strictEqual(answer.json.error, "account_id must be a valid UUID", about)
          }
        }
      }
    })
  )

  it.effect("never replays a response to another account", () =>
    Effect.gen(function* () {
      const { accounts, as, send, thingsOf } = yield* TenancyFixture
      const things = yield* thingsOf(accounts.victim)
      for (const operation of operations.filter(takesIdempotencyKey)) {
        const { expected, id } = operation
        const [first] = expected.who.allowed(policy, "victim")
        const [plain] = through(operation, things, accounts.victim)
        const wanted = { ...plain!, headers: { "idempotency-key": `key of ${id}` } }
        const answered = yield* send(as(first!), wanted)
        assert.isBelow(answered.status, 300, id)
        for (const caller of callers.filter((caller) => caller !== first)) {
          const answer = yield* send(as(caller), wanted)
          assert.isNull(answer.headers.get("idempotency-replayed"), `${id} by ${caller}`)
          if (isLet(operation, "victim", caller)) continue
          // The same fields in other bytes are another request.
          const other = { ...wanted, body: ` ${JSON.stringify(wanted.body ?? {})}` }
          const another = yield* send(as(caller), other)
          assert.deepStrictEqual(comparable(another), comparable(answer), `${id} by ${caller}`)
        }
        const again = yield* send(as(first!), wanted)
        assert.deepStrictEqual([again.status, again.text], [answered.status, answered.text], id)
        assert.strictEqual(again.headers.get("idempotency-replayed"), "true", id)
      }
    })
  )

  it.effect("succeeds for callers with access", () =>
    Effect.gen(function* () {
      const { accounts, anonymous, as, inviteAgain, send, thingsOf } = yield* TenancyFixture
      for (const target of targets) {
        let things = yield* thingsOf(accounts[target])
        for (const operation of operations.filter((operation) => targetsOf(operation).includes(target))) {
          const { expected, id } = operation
          for (const caller of expected.who.allowed(policy, target)) {
            for (const wanted of through(operation, things, accounts[target])) {
              const answer = yield* send(as(caller), caller === "admin" ? inCapitals(wanted) : wanted)
              assert.include([200, 201, 202, 204], answer.status, `${id} by ${caller}: ${answer.text}`)
              if (expected.isUnrepeatable) things = yield* thingsOf(accounts[target])
            }
          }
          for (const { headers, name } of expected.who.isPublic ? anonymous : []) {
            const [wanted] = through(operation, things, accounts[target])
            assert.strictEqual((yield* send(headers, wanted!)).status, 200, `${id} by ${name}`)
          }
          if (id === "organizations.accept") yield* inviteAgain
        }
      }
    })
  )

  it.effect("is refused to a removed member at once", () =>
    Effect.gen(function* () {
      const { accounts, dismiss, enroll, join, send, thingsOf } = yield* TenancyFixture
      let things = yield* thingsOf(accounts.victim)
      const leaver = yield* join()
      const headers = { "x-api-key": leaver.key }
      yield* enroll(leaver, "admin")
      for (const operation of operations) {
        const { expected, id } = operation
        if (!isLet(operation, "victim", "admin") || isLet(operation, "victim", "stranger")) continue
        for (const plain of through(operation, things, accounts.victim)) {
          const wanted =
            takesIdempotencyKey(operation) && expected.staysPrivate === undefined
              ? { ...plain, headers: { "idempotency-key": `leaver's key of ${id}` } }
              : plain
          const done = yield* send(headers, wanted)
          assert.isBelow(done.status, 300, `${id}: ${done.text}`)
          yield* dismiss(leaver)
          assertTold(yield* send(headers, wanted), expected.who.refusalFor("removed"), id)
          yield* enroll(leaver, "admin")
          if (expected.isUnrepeatable) things = yield* thingsOf(accounts.victim)
        }
      }
    })
  )
}

for (const policy of ["peers", "admins"] as const) {
  layer(TenancyFixture.layer(policy))(`Every operation, where ${policy} may act for others,`, sweep(policy))
}
