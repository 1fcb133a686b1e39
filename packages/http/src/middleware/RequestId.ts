/** The id of a request, which its response, log lines and spans carry. */
import { newNonce } from "@castellan/domain/newNonce.ts"
import { Effect } from "effect"
import { SecureRandom } from "effect/crypto"
import type { HttpServerRequest } from "effect/http"

export const requestIdHeader = "x-request-id"

const isRequestId = (text: string | undefined): text is string => text !== undefined && /^[\w.:-]{1,128}$/.test(text)

/** The id that the caller gave, if it is 1 to 128 letters, digits and `_.:-`; otherwise a new one. */
export const requestIdOf = Effect.fnUntraced(function* ({ headers }: HttpServerRequest.HttpServerRequest) {
  const given = headers[requestIdHeader]
  return isRequestId(given) ? given : `req_${yield* newNonce(yield* SecureRandom.SecureRandom)}`
})
