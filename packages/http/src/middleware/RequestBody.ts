/** Reads and parses the body of a request once. */
import { Effect, Stream } from "effect"
import type { HttpServerRequest } from "effect/http"
import { BodyNotJson } from "../api/Statuses.ts"

const utf8 = new TextDecoder("utf-8", { fatal: true })

const parse = (bytes: ArrayBuffer) => {
  try {
    const text = utf8.decode(bytes)
    return text.trim() === "" ? { text: "{}", json: {} } : { text, json: JSON.parse(text) as unknown }
  } catch {
    return undefined
  }
}

/**
 * The request as handlers see it, and its JSON body. An empty body is `{}`. A body that is not JSON is a defect,
 * because no handler can handle it.
 */
export const readOnce = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
  const body = yield* Effect.cached(
    Effect.flatMap(request.arrayBuffer, (bytes) => {
      const parsed = parse(bytes)
      return parsed === undefined ? Effect.die(new BodyNotJson()) : Effect.succeed(parsed)
    })
  )
  const text = { value: Effect.map(body, (parsed) => parsed.text) }
  // Effect fails to stream the body of a web request that has none.
  const stream = { value: Stream.empty }
  const isEmpty = request.source instanceof Request && request.source.body === null
  return {
    request: Object.create(request, isEmpty ? { text, stream } : { text }) as HttpServerRequest.HttpServerRequest,
    json: Effect.orDie(Effect.map(body, (parsed) => parsed.json))
  }
})
