/** Ends all leases of a database that only one server can open: their holders have stopped. */
import type { Kysely } from "kysely"
import type { Tables } from "./Tables.ts"

/**
 * Ends the leases of idempotency keys, sessions, apps and image builds, so that this server need not wait until they
 * expire. Times in `look_at` that are not leases stay as they are.
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
