/** The API as a fetch function, to be mounted in a server of one's own or called without any. */
import { Effect, Exit, Layer, Scope } from "effect"
import { HttpEffect, type HttpServerRequest } from "effect/http"
import * as Castellan from "./Castellan.ts"
import * as Server from "./Server.ts"

export interface WebHandler {
  /** Answers a request of the API. Never rejects. */
  readonly handler: (request: Request) => Promise<Response>
  /** Stops the workers and closes what the ports opened. */
  readonly dispose: () => Promise<void>
}

/** Builds the ports, starts the workers, and gives the function that answers. */
export const make = async <E>(
  ports: Layer.Layer<Castellan.Ports, E>,
  options: Castellan.CastellanOptions & Server.ServerOptions
): Promise<WebHandler> => {
  const scope = Scope.makeUnsafe()
  const dispose = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const built = Effect.gen(function* () {
    const services = yield* Layer.build(Castellan.layer(options).pipe(Layer.provideMerge(ports)))
    const app = yield* Effect.provide(Server.make(options), services)
    // What is streamed has the embedder's logger, tracer and clock, too.
    const serve = HttpEffect.toWebHandlerWith<never, HttpServerRequest.HttpServerRequest | Scope.Scope>(services)
    return serve(Effect.provide(app, services))
  })
  try {
    return { handler: await Effect.runPromise(Effect.provideService(built, Scope.Scope, scope)), dispose }
  } catch (cause) {
    await dispose()
    throw cause
  }
}
