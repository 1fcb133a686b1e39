/** The faults of Vercel that a test can plan. */
import { matches, type RequestFilter } from "../Faults.ts"
import { type JsonResponse, json, refusal, refusalOf, snapshotNotFound } from "./wire/responses.ts"

/** Something that goes wrong. */
export type Fault =
  /** The connection closes before the request is handled. */
  | { readonly kind: "droppedBefore" }
  /** The request is handled, and the connection closes before the response. */
  | { readonly kind: "droppedAfter" }
  /** The connection closes after `afterBytes` of the response body. */
  | { readonly kind: "reset"; readonly afterBytes: number }
  /** The connection closes `afterMs` after the head was sent, unless the body has ended. */
  | { readonly kind: "cutOff"; readonly afterMs: number }
  /** The body ends normally after `afterLines` lines. */
  | { readonly kind: "endedEarly"; readonly afterLines: number }
  /** The body is sent byte by byte. */
  | { readonly kind: "oneByteChunks" }
  /** The rate limit; `retry-after` is omitted if `retryAfterSeconds` is null. */
  | { readonly kind: "rateLimited"; readonly retryAfterSeconds: number | null }
  | { readonly kind: "status"; readonly status: number; readonly code?: string; readonly message?: string }
  /** The request is handled after a delay. */
  | { readonly kind: "slow"; readonly ms: number }
  /** Delays the first command of a session only, since Vercel may respond before the machine has booted. */
  | { readonly kind: "slowFirstCommand"; readonly ms: number }
  /** A stop or a snapshot takes `ms`. Until then the session refuses all requests, and a resume waits. */
  | { readonly kind: "slowStop"; readonly ms: number }
  /** The session of a command times out `afterMs` after the request. */
  | { readonly kind: "expires"; readonly afterMs: number }
  /** The snapshot to boot from does not exist. */
  | { readonly kind: "snapshotNotFound" }
  /** The session is stopping, being snapshotted, or stopped. */
  | { readonly kind: "sandboxStopping" }
  | { readonly kind: "sandboxSnapshotting" }
  | { readonly kind: "sandboxStopped" }

const command = /\/cmd(\?|$)/

/** The only requests that a kind of fault can apply to. */
const natural: Partial<Record<Fault["kind"], RequestFilter>> = {
  slowFirstCommand: { method: "POST", path: command },
  slowStop: { method: "POST", path: /\/(stop|snapshot)(\?|$)/ },
  expires: { method: "POST", path: command }
}

/** Whether a fault can apply to a request. */
export const fits =
  (method: string, path: string, isFirstCommand: boolean) =>
  ({ kind }: Fault): boolean =>
    (kind !== "slowFirstCommand" || isFirstCommand) && matches(natural[kind] ?? {}, method, path)

/** The response of a fault that replaces Vercel's; undefined for other faults. */
export const responseOf = (fault: Fault): JsonResponse | undefined => {
  switch (fault.kind) {
    case "rateLimited":
      return json(
        { error: { code: "rate_limited", message: "Rate limit exceeded" } },
        429,
        fault.retryAfterSeconds === null ? {} : { "retry-after": String(fault.retryAfterSeconds) }
      )
    case "status":
      return json(
        { error: { code: fault.code ?? "internal_server_error", message: fault.message ?? "Something went wrong" } },
        fault.status
      )
    case "snapshotNotFound":
      return refusal(snapshotNotFound)
    case "sandboxStopping":
      return refusal(refusalOf("stopping"))
    case "sandboxSnapshotting":
      return refusal(refusalOf("snapshotting"))
    case "sandboxStopped":
      return refusal(refusalOf("stopped"))
    default:
      return undefined
  }
}
