/**
 * Who may ask what of whose things, and what everybody else is told. One entry for each operation of the API's document:
 * the sweep asks each of them as everybody there is.
 */
import type { AccessPolicy } from "@castellan/domain/identity/AccessRule.ts"

/** Whoever comes with a good key. The first organization has the victim and those up to `removed`. */
export const callers = [
  /** A plain member; most of the things that are asked for are its own. */
  "victim",
  "owner",
  "admin",
  "member",
  /** Has not accepted. */
  "invited",
  "removed",
  /** Owner and plain member of the other organization. */
  "otherOwner",
  "otherMember",
  /** In no organization. */
  "stranger",
  "platformAdmin"
] as const
export type Caller = (typeof callers)[number]

/** Whose things are asked for: the victim's, or those of the organization itself. */
export const targets = ["victim", "organization"] as const
export type Target = (typeof targets)[number]

/** What has an id that a request can name. */
export type Thing =
  "sandbox" | "session" | "run" | "liveRun" | "apiKey" | "snapshot" | "app" | "organization" | "newcomer"

/** An answer to who may not. */
export interface Refusal {
  readonly status: number
  readonly body: unknown
}

const refusal = (status: number, code: string, error: string): Refusal => ({
  status,
  body: { status: "error", success: false, error, code }
})

export const credentialsUnclear = refusal(
  401,
  "credentials_unclear",
  "Exactly one of x-api-key or Authorization must be provided"
)
export const unauthorized = refusal(401, "unauthorized", "Unauthorized")
export const accessDenied = refusal(403, "access_denied", "Access denied to specified account_id")
export const unknownAccountId = refusal(400, "unknown_field", "unknown field: account_id")
export const forbidden = refusal(403, "forbidden", "Forbidden")
export const organizationNotFound = refusal(404, "organization_not_found", "Organization not found")
const sandboxNotFound = refusal(404, "sandbox_not_found", "Sandbox not found")
const runNotFound = refusal(404, "task_run_not_found", "Task run not found")
const keyNotFound = refusal(404, "api_key_not_found", "API key not found")
const snapshotNotFound = refusal(404, "snapshot_not_found", "Snapshot not found")
const sessionNotFound = refusal(404, "session_not_found", "Session not found")
const appNotFound = refusal(404, "sandbox_not_found", "No active sandbox found")
const organizationDenied = refusal(403, "access_denied", "Access denied to specified organization_id")
/** The rest of a list's answer is the caller's own. */
const emptyList: Refusal = { status: 200, body: { status: "success", sandboxes: [] } }

/** Who is let in, and what the others are told. */
export interface Rule {
  readonly lets: (policy: AccessPolicy, target: Target) => ReadonlyArray<Caller>
  readonly tells: (caller: Caller) => Refusal
  /** Needs no credential. */
  readonly open?: true
}

const everyone: Rule = { lets: () => callers, tells: () => unauthorized, open: true }

/** Each for itself: there is nobody else to ask it of. */
const anyAccount: Rule = { lets: () => callers, tells: () => unauthorized }

const platformAdmins: Rule = { lets: () => ["platformAdmin"], tells: () => forbidden }

/** Whom the policy lets act for the account that `account_id` names. */
const peers: Rule = {
  lets: (policy, target) => [
    ...(policy === "peers" || target === "victim" ? (["victim"] as const) : []),
    "owner",
    "admin",
    ...(policy === "peers" ? (["member"] as const) : []),
    "platformAdmin"
  ],
  tells: () => accessDenied
}

/** What is nobody's but the account's own. */
const itself: Rule = {
  lets: (_, target) => (target === "victim" ? ["victim", "platformAdmin"] : ["platformAdmin"]),
  tells: () => accessDenied
}

/** Its account's, whoever else may act for that. */
const holder: Rule = { lets: () => ["victim"], tells: () => forbidden }

/** Its account's alone; to others there is no such app. */
const builder: Rule = { lets: () => ["victim"], tells: () => appNotFound }

/** Members alone: a session is never for another account. */
const workers: Rule = { lets: () => ["victim", "owner", "admin", "member"], tells: () => organizationDenied }

const members: Rule = {
  lets: () => ["victim", "owner", "admin", "member", "platformAdmin"],
  tells: () => organizationNotFound
}

/** Those who may change the organization; its members are told that they may not, others not even that it is there. */
const leaders: Rule = {
  lets: () => ["owner", "admin", "platformAdmin"],
  tells: (caller) => (caller === "victim" || caller === "member" ? forbidden : organizationNotFound)
}

/** Those who are invited; who has accepted may do so again. */
const invitees: Rule = {
  lets: () => ["invited", "victim", "owner", "admin", "member"],
  tells: () => organizationNotFound
}

export interface Expectation {
  readonly who: Rule
  /** The ids it takes besides `account_id`: its parameter or field, and what that names. */
  readonly names?: Readonly<Record<string, Thing>>
  /** What who asks for its own account is told of another account's id: the same as of an id that never was. */
  readonly hides?: Refusal
  /** What is said of an id that never was, where it is no secret which ones there are. */
  readonly unknown?: Refusal
  /** What else belongs to a request that succeeds. */
  readonly query?: Readonly<Record<string, string>>
  readonly body?: Readonly<Record<string, unknown>>
  /** Fields that no schema rules out together, and that are refused as if one did. */
  readonly refuses?: Readonly<Record<string, unknown>>
  /** It can't be asked again of the same things. */
  readonly ends?: true
  /** What it makes is the caller's own for good, and so is the answer that is kept of it. */
  readonly keeps?: true
  /** Its answer goes on for ever; how it begins is enough. */
  readonly endless?: true
}

/** A repository that every session may work on. */
export const sharedRepo = {
  owner: "castellan",
  name: "shared",
  url: "https://repositories.memory.test/castellan/shared"
}

const sandbox = { who: peers, names: { sandboxId: "sandbox" }, hides: sandboxNotFound } as const

const app = { who: builder, names: { sandboxId: "app" } } as const

const session = { who: holder, names: { id: "session" }, unknown: sessionNotFound } as const
const sessionSandbox = { ...session, names: { sessionId: "session" } } as const

export const expectations: Readonly<Record<string, Expectation>> = {
  "system.health": { who: everyone },
  "system.ready": { who: everyone },

  "accounts.create": { who: platformAdmins, body: { name: "Ada" } },
  "admins.sandboxes": { who: platformAdmins },

  "keys.issue": { who: itself, body: { name: "another" } },
  "keys.list": { who: itself },
  "keys.revoke": { who: itself, names: { id: "apiKey" }, hides: keyNotFound, ends: true },

  "organizations.create": { who: anyAccount, body: { name: "A third one" } },
  "organizations.list": { who: anyAccount },
  "organizations.members": { who: members, names: { id: "organization" } },
  "organizations.invite": { who: leaders, names: { id: "organization", accountId: "newcomer" } },
  "organizations.accept": { who: invitees, names: { id: "organization" } },
  "organizations.remove": { who: leaders, names: { id: "organization", accountId: "newcomer" } },

  "sandboxes.create": {
    who: peers,
    names: { snapshotId: "snapshot" },
    hides: snapshotNotFound,
    body: { command: "true" },
    refuses: { command: "true", prompt: "both" }
  },
  "sandboxes.list": { who: peers, names: { sandbox_id: "sandbox" }, hides: emptyList },
  "sandboxes.change": { who: peers, names: { snapshotId: "snapshot" }, hides: snapshotNotFound },
  "sandboxes.clear": { who: peers, ends: true },
  "sandboxes.setup": { who: peers },
  "sandboxes.file": { who: peers, query: { path: "README.md" } },

  "sandbox.get": sandbox,
  "sandbox.run": { ...sandbox, body: { command: "true" } },
  "sandbox.files": sandbox,
  "sandbox.readFile": { ...sandbox, query: { path: "notes.txt" } },
  "sandbox.writeFile": { ...sandbox, query: { path: "notes.txt" } },
  "sandbox.snapshot": sandbox,
  "sandbox.fork": sandbox,
  "sandbox.extend": { ...sandbox, body: { ms: 1000 } },
  "sandbox.remove": { ...sandbox, ends: true },

  "runs.list": { who: peers, names: { runId: "run" }, hides: runNotFound },
  "runs.logs": { who: peers, names: { runId: "run" }, hides: runNotFound },
  "runs.cancel": { who: peers, names: { runId: "liveRun" }, hides: runNotFound, ends: true },

  "sessions.create": {
    who: workers,
    names: { organizationId: "organization" },
    body: { title: "work" },
    keeps: true
  },
  "sessions.list": { who: anyAccount },
  "sessions.get": session,
  "sessions.change": { ...session, body: { title: "other work" } },
  "sessions.run": { ...session, body: { command: "true" } },

  "sessionSandbox.open": { ...sessionSandbox, body: { repoUrl: sharedRepo.url } },
  "sessionSandbox.status": sessionSandbox,
  "sessionSandbox.reconnect": sessionSandbox,
  "sessionSandbox.activity": sessionSandbox,
  "sessionSandbox.extend": { ...sessionSandbox, body: { ms: 1000 } },
  "sessionSandbox.hibernate": { ...sessionSandbox, ends: true },

  "apps.create": { who: anyAccount, ends: true },
  "apps.files": app,
  "apps.diagnose": app,
  "apps.install": { ...app, body: { packages: ["left-pad"] } },
  "apps.apply": { ...app, body: { files: [{ path: "src/a.ts", content: "" }] } },
  // What is not there, or not the caller's, has ended already.
  "apps.kill": { who: anyAccount, names: { sandboxId: "app" }, ends: true },

  "events.follow": { who: peers, endless: true }
}
