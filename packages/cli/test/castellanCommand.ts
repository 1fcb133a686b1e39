/** Runs the command line in this process with given arguments, and collects its output and exit code. */
import { run } from "../src/Cli.ts"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { ConfigProvider, Effect, Fiber, Layer, Sink, Stdio, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import { WebApi } from "../../http/test/WebApi.ts"

export interface Said {
  readonly exit: number
  readonly stdout: string
  readonly stderr: string
}

export interface Surroundings {
  readonly key?: string
  readonly env?: Record<string, string>
  readonly stdin?: string
  /** Receives each piece of output as it is printed. */
  readonly onPrint?: (text: string) => void
}

const text = (chunk: string | Uint8Array) => (typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk))

/** The API in this process, as a fetch function. */
export const fetchOfApi = Effect.map(
  WebApi,
  (api): typeof globalThis.fetch =>
    (input, init) =>
      Effect.runPromise(api.fetch(new Request(input, init)))
)

/** Runs the command line over the fetch function. */
export const castellanOver = Effect.fnUntraced(function* (
  fetch: typeof globalThis.fetch,
  args: ReadonlyArray<string>,
  around: Surroundings = {}
) {
  const said = { stdout: "", stderr: "" }
  const into = (name: keyof typeof said) => () =>
    Sink.forEach((chunk: string | Uint8Array) =>
      Effect.sync(() => {
        said[name] += text(chunk)
        around.onPrint?.(text(chunk))
      })
    )
  const stdio = Stdio.layerTest({
    stdout: into("stdout"),
    stderr: into("stderr"),
    stdin: around.stdin === undefined ? Stream.empty : Stream.encodeText(Stream.make(around.stdin))
  })
  const env = { ...(around.key === undefined ? {} : { CASTELLAN_API_KEY: around.key }), ...around.env }
  const exit = yield* run(args).pipe(
    Effect.provide([
      stdio,
      FetchHttpClient.layer.pipe(Layer.provide(Layer.succeed(FetchHttpClient.Fetch, fetch))),
      ConfigProvider.layer(ConfigProvider.fromEnv({ env }))
    ]),
    Effect.provide(NodeServices.layer)
  )
  return { exit, ...said } satisfies Said
})

/** Runs the command line over the API in this process, or over the given fetch function. */
export const castellan = (
  args: ReadonlyArray<string>,
  { fetch, ...around }: Surroundings & { readonly fetch?: typeof globalThis.fetch } = {}
) =>
  Effect.flatMap(fetch === undefined ? fetchOfApi : Effect.succeed(fetch), (over) => castellanOver(over, args, around))

/** Advances the test clock until the command line has ended. */
export const untilDone = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function* () {
    while (fiber.pollUnsafe() === undefined) {
      yield* TestClock.adjust("250 millis")
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
    return yield* Fiber.join(fiber)
  })
