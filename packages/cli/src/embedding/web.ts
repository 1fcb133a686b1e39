/** The HTTP API as a fetch function, to be mounted in another server or called directly. */
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { type Context, Effect, Exit, Layer, Option, type Redacted, Scope } from "effect"
import { HttpEffect, type HttpServerRequest } from "effect/http"
import * as Castellan from "@castellan/http/server/Castellan.ts"
import * as Server from "@castellan/http/server/Server.ts"

export interface WebHandler {
  /** Handles an API request. Never rejects. */
  readonly handler: (request: Request) => Promise<Response>
  /** Stops the workers and closes what the ports opened. */
  readonly dispose: () => Promise<void>
}

export interface WebOptions extends Castellan.CastellanOptions, Server.ServerOptions {
  /** The platform admin's key, which replaces the previously configured one. */
  readonly adminKey?: Redacted.Redacted<string>
}

/** What the API needs: the use cases and their ports. */
export type Services = Layer.Success<ReturnType<typeof Castellan.layer>> | Castellan.Ports

/** The handler over existing use cases. */
export const handlerOver = Effect.fnUntraced(function* (services: Context.Context<Services>, options: WebOptions) {
  if (options.adminKey !== undefined) {
    const { ensurePlatformAdmin } = yield* Effect.provide(ApiKeys, services)
    yield* ensurePlatformAdmin(Option.some(options.adminKey))
  }
  const app = yield* Effect.provide(Server.make(options), services)
  // Streams use the embedder's logger, tracer and clock, too.
  const serve = HttpEffect.toWebHandlerWith<never, HttpServerRequest.HttpServerRequest | Scope.Scope>(services)
  return serve(Effect.provide(app, services))
})

/** Builds the ports, starts the workers, and returns the handler. */
export const make = async <E>(ports: Layer.Layer<Castellan.Ports, E>, options: WebOptions): Promise<WebHandler> => {
  const scope = Scope.makeUnsafe()
  const dispose = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const built = Effect.flatMap(Layer.build(Castellan.layer(options).pipe(Layer.provideMerge(ports))), (services) =>
    handlerOver(services, options)
  )
  try {
    return { handler: await Effect.runPromise(Effect.provideService(built, Scope.Scope, scope)), dispose }
  } catch (cause) {
    await dispose()
    throw cause
  }
}
