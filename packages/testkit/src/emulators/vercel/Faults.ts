/** What goes wrong between a client and Vercel, on demand. */
import { befalls, type Which } from "../Faults.ts"
import { type Answer, json, refusal, refusalOf, snapshotNotFound } from "./wire/Answers.ts"

/** Something that goes wrong. */
export type Fault =
  /** The connection goes before anything is done. */
  | { readonly kind: "droppedBefore" }
  /** All is done, and the connection goes instead of an answer. */
  | { readonly kind: "droppedAfter" }
  /** The connection goes in the middle of the body, after so many bytes of it. */
  | { readonly kind: "reset"; readonly afterBytes: number }
  /** The connection goes so long after the head was sent, if the body is not over by then. */
  | { readonly kind: "cutOff"; readonly afterMs: number }
  /** The body ends as if that was all, after so many lines of it. */
  | { readonly kind: "endedEarly"; readonly afterLines: number }
  /** The body comes byte by byte. */
  | { readonly kind: "oneByteChunks" }
  /** Too many requests; a client may ask again after so many seconds. */
  | { readonly kind: "rateLimited"; readonly retryAfterSeconds: number | null }
  | { readonly kind: "status"; readonly status: number; readonly code?: string; readonly message?: string }
  /** Nothing is done for so long. */
  | { readonly kind: "slow"; readonly ms: number }
  /** The same, of the first command of a session only: Vercel may answer before the machine has booted. */
  | { readonly kind: "slowFirstCommand"; readonly ms: number }
  /** A stop, or a snapshot, takes so long: until then the session refuses everything, and who resumes it waits. */
  | { readonly kind: "slowStop"; readonly ms: number }
  /** So long after a command was asked for, the time of its session is up. */
  | { readonly kind: "expires"; readonly afterMs: number }
  /** The snapshot to be booted from is not there any more. */
  | { readonly kind: "snapshotNotFound" }
  /** The session is on its way down, or already there. */
  | { readonly kind: "sandboxStopping" }
  | { readonly kind: "sandboxSnapshotting" }
  | { readonly kind: "sandboxStopped" }

const command = /\/cmd(\?|$)/

/** The requests that a kind of fault fits by its nature. */
const natural: Partial<Record<Fault["kind"], Which>> = {
  slowFirstCommand: { method: "POST", path: command },
  slowStop: { method: "POST", path: /\/(stop|snapshot)(\?|$)/ },
  expires: { method: "POST", path: command }
}

/** Whether a fault can befall a request at all. */
export const fits =
  (method: string, path: string, isFirstCommand: boolean) =>
  ({ kind }: Fault): boolean =>
    (kind !== "slowFirstCommand" || isFirstCommand) && befalls(natural[kind] ?? {}, method, path)

/** What a fault answers instead of Vercel; undefined where it is no answer that is wrong. */
export const answerOf = (fault: Fault): Answer | undefined => {
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
