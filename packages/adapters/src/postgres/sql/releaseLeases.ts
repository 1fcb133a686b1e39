/** Ends the leases of a database that only one server can have open: whoever held them is dead. */
import type { Kysely } from "kysely"
import type { Tables } from "./Tables.ts"

/**
 * Makes keyed requests, sessions, apps and image builds that a dead server was at work on free for this one, which would
 * else wait for their leases to lapse. What is due for another reason than a lease stays as it is.
 */
export const releaseLeases = async (kysely: Kysely<Tables>, now: Date): Promise<void> => {
  await kysely
    .updateTable("idempotent_requests")
    .set({ begun_at: new Date(0) })
    .where("answer_status", "is", null)
    .execute()
  await kysely
    .updateTable("sessions")
    .set({ look_at: now })
    .where("state", "in", ["provisioning", "restoring", "hibernating"])
    .where("look_at", ">", now)
    .execute()
  await kysely
    .updateTable("app_sandboxes")
    .set({ look_at: now })
    .where("state", "in", ["starting", "ending"])
    .where("look_at", ">", now)
    .execute()
  await kysely.updateTable("base_images").set({ builder_until: now }).where("builder_until", ">", now).execute()
}
