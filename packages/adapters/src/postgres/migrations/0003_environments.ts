import { type Kysely, sql } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema
    .createTable("environments")
    .addColumn("account_id", "uuid", (column) => column.primaryKey().references("accounts.id").onDelete("cascade"))
    .addColumn("snapshot", "text")
    .addColumn("expires_at", "timestamptz")
    .addColumn("repo", "text")
    .addColumn("granted", "boolean", (column) => column.notNull())
    .addColumn("setup", "text")
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .execute()
  await db.schema.createIndex("environments_snapshot").on("environments").column("snapshot").execute()

  await db.schema
    .createTable("kept_snapshots")
    .addColumn("key", "text", (column) => column.primaryKey())
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("source", "text", (column) => column.notNull())
    .addColumn("snapshot", "text")
    .addColumn("purpose", "text", (column) => column.notNull())
    .addColumn("started_at", "timestamptz", (column) => column.notNull())
    .addColumn("expires_at", "timestamptz", (column) => column.notNull())
    .addColumn("saved", "boolean", (column) => column.notNull().defaultTo(false))
    .execute()
  // `saved` marks a snapshot that an environment uses, so that the search for unused snapshots skips it. An unmarked one
  // may also be in use: it may be shared, or its snapshot completed after the save.
  await sql`
    create function mark_saved_snapshots() returns trigger language plpgsql as $$
    begin
      if old.snapshot is distinct from new.snapshot then
        update kept_snapshots set saved = false where snapshot = old.snapshot;
        update kept_snapshots set saved = true where snapshot = new.snapshot;
      end if;
      return null;
    end
    $$`.execute(db)
  await sql`
    create trigger environments_saved after insert or delete or update of snapshot on environments
    for each row execute function mark_saved_snapshots()`.execute(db)
  await db.schema
    .createIndex("kept_snapshots_wanted")
    .unique()
    .on("kept_snapshots")
    .columns(["account_id", "source"])
    .where(sql.ref("snapshot"), "is", null)
    .execute()
  await db.schema
    .createIndex("kept_snapshots_oldest")
    .on("kept_snapshots")
    .columns(["account_id", "started_at", "key"])
    .execute()
  await db.schema
    .createIndex("kept_snapshots_source")
    .on("kept_snapshots")
    .columns(["account_id", "source", "started_at", "key"])
    .execute()
  await db.schema.createIndex("kept_snapshots_snapshot").on("kept_snapshots").column("snapshot").execute()
  await db.schema.createIndex("kept_snapshots_expired").on("kept_snapshots").column("expires_at").execute()
  await db.schema
    .createIndex("kept_snapshots_untaken")
    .on("kept_snapshots")
    .column("started_at")
    .where(sql.ref("snapshot"), "is", null)
    .execute()
  await db.schema
    .createIndex("kept_snapshots_passing")
    .on("kept_snapshots")
    .column("started_at")
    .where(sql.ref("purpose"), "<>", "manual")
    .where(sql.ref("saved"), "=", false)
    .execute()

  await db.schema.alterTable("account_sandboxes").addColumn("removed_at", "timestamptz").execute()
  await db.schema
    .createIndex("account_sandboxes_kept")
    .on("account_sandboxes")
    .columns(["account_id", "created_at", "name"])
    .where(sql.ref("removed_at"), "is", null)
    .execute()
  await sql`
    create index account_sandboxes_expired on account_sandboxes ((coalesce(expires_at, created_at)))
    where removed_at is null and status <> 'pending'`.execute(db)
  await sql`
    create index account_sandboxes_live on account_sandboxes (account_id, (coalesce(expires_at, 'infinity')))
    where status in ('pending', 'running', 'stopping')`.execute(db)
  // Counts under a lock that lasts until the end of the transaction. Each statement of a volatile function sees what was
  // committed before it began, so the count sees the commit that the lock waited for; in one statement with the lock it
  // would not. It is a function so that counting and inserting take one round trip.
  await sql`
    create function live_sandboxes(account uuid, at timestamptz) returns bigint language plpgsql as $$
    begin
      perform pg_advisory_xact_lock(hashtextextended('account_sandboxes ' || account, 0));
      return (
        select count(*) from account_sandboxes
        where account_id = account and status in ('pending', 'running', 'stopping')
          and coalesce(expires_at, 'infinity') > at
      );
    end
    $$`.execute(db)
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await sql`drop function live_sandboxes`.execute(db)
  for (const index of ["account_sandboxes_live", "account_sandboxes_expired", "account_sandboxes_kept"]) {
    await db.schema.dropIndex(index).execute()
  }
  await db.schema.alterTable("account_sandboxes").dropColumn("removed_at").execute()
  for (const table of ["environments", "kept_snapshots"]) await db.schema.dropTable(table).execute()
  await sql`drop function mark_saved_snapshots`.execute(db)
}
