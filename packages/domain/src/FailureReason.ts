/** Why an operation failed, for its owner: a code for programs, a sentence for people, and when to retry. */
import { Schema } from "effect"

/** Each code, and whether the repository or branch that the caller chose is the cause. */
const codes = {
  /** The repository does not exist, or this account may not read it. */
  repository_not_found: { isCallerError: true },
  /** A commit of the branch has an object that is unsafe to check out, or that git can't read. */
  repository_unsafe: { isCallerError: true },
  /** The branch is larger than the server fetches. */
  repository_too_large: { isCallerError: true },
  /** The repository has commits but not the requested branch. */
  branch_not_found: { isCallerError: true },
  /** The repository host did not answer, or was too busy. */
  repository_host_unavailable: { isCallerError: false },
  /** The repository host refused the server's request. */
  repository_host_refused: { isCallerError: false },
  /** Git failed inside the sandbox. */
  checkout_failed: { isCallerError: false },
  /** The sandbox stopped before it was ready. */
  sandbox_stopped: { isCallerError: false },
  /** The sandbox provider did not answer, or was too busy. */
  provider_unavailable: { isCallerError: false },
  /** The sandbox provider refused the server's request. */
  provider_refused: { isCallerError: false },
  /** A program inside the sandbox did not answer in time. */
  sandbox_no_answer: { isCallerError: false },
  /** A program inside the sandbox gave a malformed or too large answer. */
  sandbox_bad_answer: { isCallerError: false },
  /** The provider no longer had the sandbox and its files. */
  provider_lost: { isCallerError: false },
  /** The provider no longer has the snapshot from which the sandbox should boot. */
  snapshot_gone: { isCallerError: false },
  /** The sandbox was deleted during its creation. */
  sandbox_deleted: { isCallerError: false },
  /** All attempts failed. */
  attempts_exhausted: { isCallerError: false },
  /** The image that web apps boot from could not be prepared. */
  app_image_not_ready: { isCallerError: false },
  /** The page of a new web app did not answer in time. */
  app_silent: { isCallerError: false },
  /** The web app was terminated during its creation. */
  app_ended: { isCallerError: false },
  /** The session was archived or removed while it was being opened. */
  session_ended: { isCallerError: false },
  /** An unexpected error of the server. */
  internal_error: { isCallerError: false }
} as const

export const FailureCode = Schema.Literals(Object.keys(codes) as ReadonlyArray<keyof typeof codes>)
export type FailureCode = typeof FailureCode.Type

export const FailureReason = Schema.Struct({
  code: FailureCode,
  /** One sentence, without tokens, paths of the server or messages of other services. */
  sentence: Schema.String,
  /** Milliseconds to wait before a retry; null if a retry can't succeed. */
  retryAfterMs: Schema.NullOr(Schema.Int)
})
export type FailureReason = typeof FailureReason.Type

/** The shortest wait before a retry, and the default, in milliseconds. */
const minRetryAfterMs = 1000

/** A failure after which a retry may succeed. */
export const transient = (code: FailureCode, sentence: string, retryAfterMs: number | null = null): FailureReason => ({
  code,
  sentence,
  retryAfterMs: Math.max(minRetryAfterMs, retryAfterMs ?? 0)
})

/** A failure that a retry can't overcome. */
export const permanent = (code: FailureCode, sentence: string): FailureReason => ({
  code,
  sentence,
  retryAfterMs: null
})

/** Whether the caller chose a repository or branch that can't be used. */
export const isCallerError = ({ code }: FailureReason): boolean => codes[code].isCallerError
