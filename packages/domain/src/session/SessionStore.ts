/** Stores sessions. A NUL in a text may be read back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountId } from "../identity/Account.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { Page, PageOf } from "../Page.ts"
import type { AppliedSessionTransition } from "./SessionLifecycle.ts"
import type { Session, SessionId, SessionStatus } from "./Session.ts"

/** The fields outside the lifecycle to change; others stay as they are. */
export interface SessionChange {
  readonly title?: string
  readonly status?: Exclude<SessionStatus, "archived">
  /** Applies only if the session has no repository yet. */
  readonly repo?: string
}

export class SessionStore extends Context.Service<
  SessionStore,
  {
    /**
     * Inserts a session of the scope's account with its creation event. Idempotent on the id: returns the first row
     * written. None, without any change, if the id belongs to another account.
     */
    readonly add: (scope: AccountScope, session: Session) => Effect.Effect<Option.Option<Session>>
    /** The session with this id, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, id: SessionId) => Effect.Effect<Option.Option<Session>>
    /** The account that owns the session. Callers may learn nothing else about a session of another account. */
    readonly ownerOf: (id: SessionId) => Effect.Effect<Option.Option<AccountId>>
    /** The sessions of the scope's account, newest first, without those that are ephemeral. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<Session>>
    /**
     * The number of the scope's account's sessions whose sandbox runs or is about to run: those that are provisioning,
     * active, restoring or hibernating, ephemeral ones included.
     */
    readonly countAwake: (scope: AccountScope) => Effect.Effect<number>
    /**
     * Changes fields outside the lifecycle at `now`, and returns the session. The version stays. An archived session
     * keeps its status, and a session with a repository keeps that.
     */
    readonly change: (
      scope: AccountScope,
      id: SessionId,
      change: SessionChange,
      now: DateTime.Utc
    ) => Effect.Effect<Option.Option<Session>>
    /**
     * Writes the lifecycle of an applied transition, and its event if it has one, if the stored version is the expected
     * one; returns whether it did. One of several concurrent writes succeeds. Fields outside the lifecycle stay as
     * stored, except that the transition sets and clears the status `archived`. The place of the working tree belongs
     * to the lifecycle; a row without it has the working tree in the home directory.
     */
    readonly compareAndSet: (scope: AccountScope, applied: AppliedSessionTransition) => Effect.Effect<boolean>
    /** Sets `nextCheckAt` of a session that is still at `version`, and nothing else; returns whether it did. */
    readonly setNextCheck: (
      scope: AccountScope,
      id: SessionId,
      version: number,
      nextCheckAt: DateTime.Utc
    ) => Effect.Effect<boolean>
    /**
     * Claims sessions of all accounts whose `nextCheckAt` is not after `now`, longest due first, at most `limit`. Each
     * goes to one caller: its `nextCheckAt` becomes `leaseExpiresAt`.
     */
    readonly claimDue: (
      now: DateTime.Utc,
      leaseExpiresAt: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Session>>
    /** Deletes a session that is still at this version, and emits its removal event; returns whether it did. */
    readonly remove: (scope: AccountScope, session: Session, now: DateTime.Utc) => Effect.Effect<boolean>
  }
>()("domain/session/SessionStore") {}
