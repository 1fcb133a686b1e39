/** CORS headers, which let web pages of any origin read responses. */
import { ignoredFields } from "../api/KnownFields.ts"

/** Headers of every response. */
export const cors = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": `x-request-id, idempotency-replayed, retry-after, ${ignoredFields}`
}

/** Additional headers of the response to a preflight. */
export const preflight = {
  "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
  "access-control-allow-headers":
    "content-type, authorization, x-api-key, idempotency-key, x-request-id, last-event-id",
  "access-control-max-age": "86400"
}
