/** The whole API over the World, called with requests as by a client, without a port. */
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import type { Account } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { Context, Effect, Layer, Redacted, Scope } from "effect"
import { HttpEffect, type HttpServerRequest } from "effect/http"
import { assert } from "@effect/vitest"
import * as Castellan from "../src/server/Castellan.ts"
import * as Server from "../src/server/Server.ts"
import { isDeclaredError } from "./Operations.ts"

const usual = { secret: Redacted.make(new Uint8Array(32).fill(7)), agent: ["echo", "prompted:"] as const }

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly json: any
}

/** Sends a request and reads the response. A body that is not a string is sent as JSON. Fails for an error that the operation does not declare. */
type Ask = (
  method: string,
  path: string,
  more?: { readonly key?: string; readonly body?: unknown; readonly headers?: Record<string, string> }
) => Effect.Effect<Answer>

export class WebApi extends Context.Service<
  WebApi,
  {
    readonly fetch: (request: Request) => Effect.Effect<Response>
    readonly ask: Ask
    /** Reads the first chunk of a response that never ends. */
    readonly askEndless: Ask
    /** Creates an account with a key. */
    readonly join: (more?: {
      readonly platformAdmin?: boolean
    }) => Effect.Effect<{ readonly account: Account; readonly key: string }>
  }
>()("http/test/WebApi") {
  /** Runs a test over its own World, with other options than the default. */
  static readonly layerWith = (more: Partial<Castellan.CastellanOptions & Server.ServerOptions>) =>
    WebApi.over(Layer.empty, more)

  /** Runs a test over a World with some ports replaced. */
  static readonly over = <P>(
    instead: Layer.Layer<P, never, Layer.Success<typeof World.layer>>,
    more: Partial<Castellan.CastellanOptions & Server.ServerOptions> = {}
  ) => {
    const options: Castellan.CastellanOptions & Server.ServerOptions = { ...usual, ...more }
    return Layer.effect(
      WebApi,
      Effect.gen(function* () {
        const all = yield* Effect.context<
          Castellan.Ports | ApiKeys | Layer.Success<ReturnType<typeof Castellan.layer>>
        >()
        // Each request has its own scope, as on a server.
        const context = Context.omit(Scope.Scope)(all)
        const keys = yield* ApiKeys
        const app = yield* Server.make(options)
        // Streams use the same clock.
        const handler = HttpEffect.toWebHandlerWith<never, HttpServerRequest.HttpServerRequest | Scope.Scope>(context)(
          Effect.provide(app, context)
        )
        const fetch = (request: Request) => Effect.promise((signal) => handler(new Request(request, { signal })))
        const asking =
          (read: (response: Response) => Promise<string>): Ask =>
          (method, path, { body, headers = {}, key } = {}) =>
            Effect.gen(function* () {
              const init: RequestInit = {
                method,
                headers: {
                  ...(key === undefined ? {} : { "x-api-key": key }),
                  ...(body === undefined ? {} : { "content-type": "application/json" }),
                  ...headers
                }
              }
              if (body !== undefined) init.body = typeof body === "string" ? body : JSON.stringify(body)
              const response = yield* fetch(new Request(`http://castellan.test${path}`, init))
              const text = yield* Effect.promise(() => read(response))
              const isJson = response.headers.get("content-type")?.includes("json") === true
              const json = isJson && text !== "" ? JSON.parse(text) : undefined
              const { headers: answered, status } = response
              if (status >= 400 && method !== "HEAD") {
                assert.isTrue(isDeclaredError(method, path, status, json), `${method} ${path} does not declare ${text}`)
              }
              return { status, headers: answered, text, json }
            })
        return WebApi.of({
          fetch,
          ask: asking((response) => response.text()),
          askEndless: asking(async ({ body }) => {
            const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
            const { value = "" } = await reader.read()
            await reader.cancel()
            return value
          }),
          join: (more) =>
            Effect.gen(function* () {
              const account = yield* given.account(more)
              const scope = AccountScope.ofOwner({ account: account.id })
              const { secret } = yield* keys.issue(scope, { name: "test", expiresAt: null })
              return { account, key: Redacted.value(secret) }
            }).pipe(Effect.provide(context))
        })
      })
    ).pipe(Layer.provideMerge(Castellan.layer(options)), Layer.provideMerge(instead), Layer.provideMerge(World.layer))
  }

  static readonly layer = WebApi.layerWith({})
}
