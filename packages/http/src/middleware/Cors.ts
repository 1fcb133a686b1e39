/** Headers by which browsers let pages of other origins read answers. */
import { ignoredFields } from "../api/KnownFields.ts"

/** On every answer. */
export const cors = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": `x-request-id, idempotency-replayed, retry-after, ${ignoredFields}`
}
