/** Fills a database with rows as after long use, in SQL, with ids distributed like real ones. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SessionId } from "@castellan/domain/session/Session.ts"

/** Members of each organization. Every hundredth account is an organization. */
const members = 100

/** The common interface of a pool and its clients. */
export interface Database {
  readonly query: (sql: string, parameters?: Array<unknown>) => Promise<{ readonly rows: ReadonlyArray<never> }>
}

const uuidOf = (what: string, number: string) =>
  `overlay(overlay(md5('${what} ' || ${number}) placing '4' from 13) placing '8' from 17)::uuid`
const idOf = (number: string) => uuidOf("account", number)
const sessionIdOf = (number: string) => `${uuidOf("session", number)}::text`
const nameOf = (number: string) => `'sbx_' || md5('sandbox ' || ${number})`

/**
 * Inserts `sandboxes` sandboxes of `accounts` accounts, created over the last 90 days, and as many sessions with one event
 * each. Every tenth row belongs to the first account. Sandboxes older than 30 days have no files. Of the others most are
 * stopped, a fifth were last observed running although they have expired, and few are running.
 */
const statements = (sandboxes: number, accounts: number, organizations = accounts / 100): Record<string, string> => ({
  accounts: `
    insert into accounts (id, name, platform_admin, created_at)
    select ${idOf("n")}, 'account ' || n, false, now() - interval '90 days' from generate_series(0, ${accounts - 1}) n`,
  "API keys": `
    insert into api_keys (id, account_id, name, digest, created_at)
    select 'key_' || n, ${idOf("n")}, 'key', md5('digest ' || n) || md5('tsegid ' || n), now()
    from generate_series(0, ${accounts - 1}) n`,
  memberships: `
    insert into memberships (organization_id, account_id, role, status, created_at)
    select ${idOf("o")}, ${idOf(`${organizations} + ((o * ${members / 2} + m) % ${accounts - organizations})`)},
      case m when 0 then 'owner' else 'member' end, 'active', now()
    from generate_series(0, ${organizations - 1}) o, generate_series(0, ${members - 1}) m`,
  sandboxes: `
    insert into account_sandboxes (name, account_id, status, reason, created_at, expires_at, removed_at)
    select ${nameOf("n")}, ${idOf(`(case n % 10 when 0 then 0 else 1 + (n - n / 10) % ${accounts - 1} end)`)}, status,
      case when status = 'stopped' then 'Its time was up' end, created_at,
      case when status in ('pending', 'failed') then null else created_at + interval '30 minutes' end,
      case when status <> 'pending' and created_at < now() - interval '30 days' then created_at + interval '30 days' end
    from (
      select n, now() - interval '90 days' * (${sandboxes} - n) / ${sandboxes} as created_at,
        case when luck % 5000 = 1 then 'pending' when luck % 50 = 2 then 'failed'
          when luck % 5 = 3 or n > ${sandboxes} - 500 then 'running' else 'stopped' end as status
      from (select n, hashint4(n) & 1048575 as luck from generate_series(1, ${sandboxes}) n) as numbered
    ) as made`,
  // Each account has a saved and a manual snapshot; few are unneeded.
  snapshots: `
    insert into kept_snapshots (key, account_id, source, snapshot, purpose, started_at, expires_at)
    select 'snp_' || purpose || n, ${idOf("n")}, ${nameOf(`(purpose || n)`)}, purpose || n, purpose, started_at,
      started_at + interval '30 days' * (case when n % 300 = 0 then 0.1 else 1 end)
    from (
      select *, now() - interval '20 days' * (${accounts} - n) / ${accounts} as started_at
      from generate_series(0, ${accounts - 1}) n, (values ('setup'), ('manual')) as purposes (purpose)
    ) as kept`,
  environments: `
    insert into environments (account_id, snapshot, expires_at, repo, granted, setup, created_at)
    select ${idOf("n")}, 'setup' || n, now() + interval '1 day' + n * interval '1 second',
      'https://git.example.com/castellan/account-' || n, false, 'run_' || n, now()
    from generate_series(0, ${accounts - 1}) n`,
  // Most are hibernated; one in a hundred is due within the next five minutes.
  sessions: `
    insert into sessions (id, account_id, title, status, ephemeral, created_at, updated_at, state, version, sandbox, look_at,
      fresh, attempt)
    select ${sessionIdOf("n")}, ${idOf(`(case n % 10 when 0 then 0 else 1 + (n - n / 10) % ${accounts - 1} end)`)},
      'session ' || n, 'running', n % 20 = 7, now() - interval '90 days' * (${sandboxes} - n) / ${sandboxes}, now(),
      case n % 100 when 3 then 'active' else 'hibernated' end, 5, 'ses_' || n,
      case n % 100 when 3 then now() + interval '5 minutes' * (hashint4(n) & 1023) / 1024 end, false, 0
    from generate_series(1, ${sandboxes}) n`,
  events: `
    insert into events (account_id, type, sandbox, session, at)
    select account_id, 'session.' || state, sandbox, id, created_at from sessions order by created_at`
})

/** Fills the tables and reports the duration of each statement. */
export const fill = async (database: Database, sandboxes: number, say: (line: string) => void): Promise<void> => {
  for (const [what, statement] of Object.entries(statements(sandboxes, sandboxes / 10))) {
    const start = performance.now()
    await database.query(statement)
    say(`${what}: ${((performance.now() - start) / 1000).toFixed(1)} s`)
  }
  await database.query("vacuum (analyze)")
}

const only = async (database: Database, sql: string): Promise<string> => {
  const [row] = (await database.query(`select ${sql} as only`)).rows as ReadonlyArray<{ only: string }>
  return row!.only
}

/** The account with this number. Account 0 is the big one; the first hundredth of the accounts are organizations. */
export const accountOf = async (database: Database, number: number) =>
  AccountId.make(await only(database, idOf(String(number))))

export const digestOf = (database: Database, number: number) =>
  only(database, `md5('digest ' || ${number}) || md5('tsegid ' || ${number})`)

export const sandboxOf = async (database: Database, number: number) =>
  SandboxName.make(await only(database, nameOf(String(number))))

export const sessionOf = async (database: Database, number: number) =>
  SessionId.make(await only(database, sessionIdOf(String(number))))
