/** Where sessions are kept. A NUL in a text may come back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountId } from "../identity/Account.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { Page, PageOf } from "../Page.ts"
import type { AppliedSessionTransition } from "./SessionLifecycle.ts"
import type { Session, SessionId, SessionStatus } from "./Session.ts"

/** What of a session is not its lifecycle; what is left out stays. */
export interface SessionChange {
  readonly title?: string
  readonly status?: Exclude<SessionStatus, "archived">
  /** Only where it has none yet: a session keeps its repository. */
  readonly repo?: string
}

export class SessionStore extends Context.Service<
  SessionStore,
  {
    /**
     * Writes a session of the scope's account, with the event that it was created. Idempotent on its id: gives back the
     * row that stands, the first one written. An id of another account gives none and changes nothing.
     */
    readonly add: (scope: AccountScope, session: Session) => Effect.Effect<Option.Option<Session>>
    /** The session of that id, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, id: SessionId) => Effect.Effect<Option.Option<Session>>
    /** Whose session it is: all that may be told of one that is not one's own. */
    readonly ownerOf: (id: SessionId) => Effect.Effect<Option.Option<AccountId>>
    /** The sessions of the scope's account, newest first, without those that are ephemeral. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<Session>>
    /**
     * How many sessions of the scope's account have a sandbox that runs or is about to: those that are provisioning,
     * active, restoring or hibernating, also those that are ephemeral.
     */
    readonly countAwake: (scope: AccountScope) => Effect.Effect<number>
    /**
     * Changes what is not the lifecycle at `now`, and gives the session as it is then; its version stays. An archived one
     * keeps its status, and one that has a repository keeps that.
     */
    readonly change: (
      scope: AccountScope,
      id: SessionId,
      change: SessionChange,
      now: DateTime.Utc
    ) => Effect.Effect<Option.Option<Session>>
    /**
     * Writes the lifecycle of an applied transition, and its event if it has one, if the stored version is the expected
     * one; gives whether it did. One of several concurrent writes succeeds. Fields outside the lifecycle stay as stored,
     * except that the transition sets and clears the status `archived`. The place of the working tree belongs to the
     * lifecycle; a row without it has the working tree in the home directory.
     */
    readonly compareAndSet: (scope: AccountScope, applied: AppliedSessionTransition) => Effect.Effect<boolean>
    /** Sets `nextCheckAt` of a session that is still at `version`, and gives whether it is. Nothing else changes. */
    readonly setNextCheck: (
      scope: AccountScope,
      id: SessionId,
      version: number,
      nextCheckAt: DateTime.Utc
    ) => Effect.Effect<boolean>
    /**
     * Sessions of all accounts whose `nextCheckAt` is not after `now`, the longest due first, at most `limit`. Each is
     * given to one caller: its `nextCheckAt` becomes `leaseExpiresAt`, so that no other caller gets it before.
     */
    readonly claimDue: (
      now: DateTime.Utc,
      leaseExpiresAt: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Session>>
    /** Forgets a session that is still at the version given, with the event that it was removed; tells whether it did. */
    readonly remove: (scope: AccountScope, session: Session, now: DateTime.Utc) => Effect.Effect<boolean>
  }
>()("domain/session/SessionStore") {}
