/** Events in Postgres. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { ChangeCode } from "@castellan/domain/ChangeReason.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor, SandboxEvent, SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import type { Tables } from "../sql/Tables.ts"
import { toDate } from "../sql/times.ts"

const toType = Schema.decodeUnknownSync(SandboxEventType)

/** None also for a code that only newer servers know. */
const toCode = Schema.decodeUnknownOption(ChangeCode)

const toEvent = (row: Omit<Selectable<Tables["events"]>, "place">): SandboxEvent =>
  new SandboxEvent({
    account: AccountId.make(row.account_id),
    type: toType(row.type),
    sandbox: row.sandbox === null ? null : SandboxName.make(row.sandbox),
    session: row.session,
    code: Option.getOrNull(toCode(row.code)),
    reason: row.reason,
    at: DateTime.makeUnsafe(row.at)
  })

export const layer = Layer.effect(
  EventStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    return EventStore.of({
      // Writers hold the account's lock, so an event that is committed later has a later place.
      read: (scope, after, limit) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("events")
              .select(["account_id", "type", "sandbox", "session", "code", "reason", "at"])
              .select(sql<string>`place::text`.as("cursor"))
              .where("account_id", "=", scope.account)
              .where("place", ">", sql<string>`${after ?? "0"}::bigint`)
              .orderBy("place")
              .limit(limit)
              .execute()
          ),
          (rows) => rows.map(({ cursor, ...row }) => ({ event: toEvent(row), cursor: EventCursor.make(cursor) }))
        ),
      latest: (scope) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("events")
              .select(sql<string>`coalesce(max(place), 0)::text`.as("cursor"))
              .where("account_id", "=", scope.account)
              .executeTakeFirstOrThrow()
          ),
          ({ cursor }) => EventCursor.make(cursor)
        ),
      sweep: (before) =>
        Effect.asVoid(query(() => kysely.deleteFrom("events").where("at", "<", toDate(before)).execute()))
    })
  })
)
