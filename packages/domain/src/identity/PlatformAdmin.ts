/** A proof that the actor is a platform admin. */
import { Effect, Schema } from "effect"
import { CurrentActor } from "./CurrentActor.ts"

/** The operation is for platform admins only. */
export class NotPlatformAdmin extends Schema.TaggedError<NotPlatformAdmin>()("NotPlatformAdmin", {}) {}

/** Required by operations that read the rows of all accounts. */
export class PlatformAdmin {
  /** Makes the type nominal. */
  protected readonly proven = true

  private constructor() {}

  /** Checks the current actor, without a query. */
  static readonly proof = Effect.flatMap(CurrentActor, (actor) =>
    actor.platformAdmin ? Effect.succeed(new PlatformAdmin()) : Effect.fail(new NotPlatformAdmin())
  )
}
