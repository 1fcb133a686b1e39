import { Effect, Schema } from "effect"
import { CurrentActor } from "./CurrentActor.ts"

/** Only a platform admin may do this. */
export class NotPlatformAdmin extends Schema.TaggedError<NotPlatformAdmin>()("NotPlatformAdmin", {}) {}

/** Proof that a platform admin asks. What reads across all accounts asks for it. */
export class PlatformAdmin {
  /** Keeps what only looks like a proof from being one. */
  protected readonly proven = true

  private constructor() {}

  /** The check: one of the actor, and no look-up. */
  static readonly proof = Effect.flatMap(CurrentActor, (actor) =>
    actor.platformAdmin ? Effect.succeed(new PlatformAdmin()) : Effect.fail(new NotPlatformAdmin())
  )
}
