/** Why something failed, as its owner is told: a code for programs, a sentence for people, and when to try again. */
import { Schema } from "effect"

/** The codes, each with whether the caller's choice of repository is the cause, so that only another choice helps. */
const codes = {
  /** The repository does not exist, or this account may not read it. */
  repository_not_found: { isCallers: true },
  /** A commit of the branch has an object that could do harm, or that git can't read. */
  repository_unsafe: { isCallers: true },
  /** The branch is larger than the server fetches. */
  repository_too_large: { isCallers: true },
  /** The repository has commits, but not on the branch that was asked for. */
  branch_not_found: { isCallers: true },
  /** The repository host did not answer, or was too busy. */
  repository_host_unavailable: { isCallers: false },
  /** The repository host answered that the server may not do this. */
  repository_host_refused: { isCallers: false },
  /** Git failed inside the sandbox. */
  checkout_failed: { isCallers: false },
  /** The sandbox stopped before it was ready. */
  sandbox_stopped: { isCallers: false },
  /** The sandbox provider did not answer, or was too busy. */
  provider_unavailable: { isCallers: false },
  /** The sandbox provider refused. */
  provider_refused: { isCallers: false },
  /** A program inside the sandbox gave no answer in time. */
  sandbox_no_answer: { isCallers: false },
  /** A program inside the sandbox gave an answer that is malformed or too large. */
  sandbox_bad_answer: { isCallers: false },
  /** The provider no longer had the sandbox and its files. */
  provider_lost: { isCallers: false },
  /** The provider no longer has the snapshot that the sandbox was to boot from. */
  snapshot_gone: { isCallers: false },
  /** The sandbox was deleted while it was made. */
  sandbox_deleted: { isCallers: false },
  /** The server tried as often as it does, and stopped. */
  attempts_exhausted: { isCallers: false },
  /** The image that web apps boot from could not be prepared. */
  app_image_not_ready: { isCallers: false },
  /** The page of a new web app did not answer in time. */
  app_silent: { isCallers: false },
  /** The web app was ended while it was made. */
  app_ended: { isCallers: false },
  /** The session was archived or removed while it was opened. */
  session_ended: { isCallers: false },
  /** A fault of the server. */
  internal_error: { isCallers: false }
} as const

export const FailureCode = Schema.Literals(Object.keys(codes) as ReadonlyArray<keyof typeof codes>)
export type FailureCode = typeof FailureCode.Type

export const FailureReason = Schema.Struct({
  code: FailureCode,
  /** One sentence. It has no token, no path of the server and no message of another service. */
  sentence: Schema.String,
  /** Milliseconds after which another try may succeed; null where none will. */
  retryAfterMs: Schema.NullOr(Schema.Int)
})
export type FailureReason = typeof FailureReason.Type

/** Milliseconds to wait where nobody said how long. */
const soon = 1000

/** A failure that another try may overcome. */
export const passing = (code: FailureCode, sentence: string, retryAfterMs: number | null = null): FailureReason => ({
  code,
  sentence,
  retryAfterMs: Math.max(soon, retryAfterMs ?? soon)
})

/** A failure that stays until something else changes. */
export const lasting = (code: FailureCode, sentence: string): FailureReason => ({ code, sentence, retryAfterMs: null })

/** Whether the caller named a repository, or a branch of it, that can't be used. */
export const isCallers = ({ code }: FailureReason): boolean => codes[code].isCallers
