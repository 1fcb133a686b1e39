import { assert, describe, it, layer } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { Api, operations } from "../../src/api/Api.ts"
import { type ErrorBody, errorBody } from "../../src/api/ErrorBody.ts"
import { Statuses } from "../../src/api/Statuses.ts"
import { WebApi } from "../WebApi.ts"

/** Effect's client of the API, with the headers given. */
const clientWith = (headers: Record<string, string>) =>
  Effect.gen(function* () {
    const { fetch } = yield* WebApi
    const send = (input: RequestInfo | URL, init?: RequestInit) => Effect.runPromise(fetch(new Request(input, init)))
    return yield* HttpApiClient.make(Api, {
      baseUrl: "http://castellan.test",
      transformClient: HttpClient.mapRequest(HttpClientRequest.setHeaders(headers))
    }).pipe(Effect.provide(FetchHttpClient.layer), Effect.provideService(FetchHttpClient.Fetch, send))
  })

const joined = Effect.gen(function* () {
  const { key } = yield* (yield* WebApi).join()
  return yield* clientWith({ "x-api-key": key })
})

/** The tag and body of the error that the call fails with. */
const errorOf = <E extends { readonly _tag: string; readonly body?: ErrorBody | undefined }, R>(
  call: Effect.Effect<unknown, E | { readonly _tag: string }, R>
) => Effect.map(Effect.flip(call), (error) => ({ tag: error._tag, body: (error as E).body }))

layer(WebApi.layer)("Effect's client of the API", (it) => {
  it.effect("decodes a success", () =>
    Effect.gen(function* () {
      const client = yield* joined
      const { session } = yield* client.sessions.create({ payload: { title: "Client" } })
      assert.strictEqual(session.title, "Client")
    })
  )

  it.effect("decodes the errors of authentication", () =>
    Effect.gen(function* () {
      const none = yield* clientWith({})
      assert.strictEqual((yield* errorOf(none.sandboxes.list({ query: {} }))).tag, "CredentialsUnclear")
      const unknown = yield* clientWith({ "x-api-key": "cst_unknown" })
      assert.deepStrictEqual(yield* errorOf(unknown.sandboxes.list({ query: {} })), {
        tag: "InvalidCredential",
        body: errorBody("unauthorized", "Unauthorized")
      })
    })
  )

  it.effect("decodes the errors of handlers, which can be caught by their tags", () =>
    Effect.gen(function* () {
      const client = yield* joined
      const params = { sandboxId: "sbx_00000000000000000000" }
      const caught = yield* client.sandbox
        .get({ params, query: {} })
        .pipe(Effect.catchTag("SandboxNotFound", ({ body }) => Effect.succeed(body?.code)))
      assert.strictEqual(caught, "sandbox_not_found")
      const missing = client.runs.cancel({ params: { runId: "run_none" }, query: {} })
      assert.strictEqual((yield* errorOf(missing)).tag, "TaskRunNotFound")
      assert.strictEqual((yield* errorOf(client.sessions.get({ params: { id: "none" } }))).tag, "SessionNotFound")
      const accounts = client.accounts.create({ payload: {} })
      assert.strictEqual((yield* errorOf(accounts)).tag, "NotPlatformAdmin")
      assert.strictEqual((yield* errorOf(client.apps.files({ query: {} }))).tag, "AppNotFound")
    })
  )

  it.effect("tells errors apart that share a status and a code", () =>
    Effect.gen(function* () {
      const client = yield* joined
      const malformed = client.sessions.create({ payload: { repoUrl: "ftp://nowhere" } })
      const { body, tag } = yield* errorOf(malformed)
      assert.deepStrictEqual([tag, body?.code, body?.missing_fields], ["RepoRefused", "invalid_request", ["repoUrl"]])
      const none = client.apps.install({ payload: { packages: [] } })
      assert.deepStrictEqual(yield* errorOf(none), {
        tag: "RequestRefused",
        body: errorBody("invalid_request", "Packages array is required", { missing_fields: ["packages"] })
      })
    })
  )
})

/** Errors of the server, some of each kind. */
const samples = Effect.forEach(Object.values(Statuses), (status) =>
  Effect.map(
    Arbitrary.sampleEffect(Arbitrary.schema(Schema.toType<Schema.Constraint>(status.Class)), { seed: 1, count: 5 }),
    (errors) => ({ status, errors })
  )
)

describe("The errors that an operation declares", () => {
  for (const { errors, id } of operations) {
    it.effect(`are each decoded as themselves by a client of ${id}`, () =>
      Effect.gen(function* () {
        const all = yield* samples
        for (const [code, schemas] of errors) {
          const decode = Schema.decodeUnknownSync(Schema.Union(schemas) as unknown as Schema.Codec<unknown>)
          for (const { errors, status } of all) {
            for (const error of errors) {
              if (!schemas.some((schema) => Schema.is(Schema.toType(schema))(error))) continue
              const decoded = decode(status.toBody(error as never)) as { readonly _tag: string }
              assert.deepStrictEqual([code, decoded._tag], [status.status, status.tag])
            }
          }
        }
      })
    )
  }
})
