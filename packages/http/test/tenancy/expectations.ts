/**
 * Access expectations: one entry for each operation of openapi.json, with the callers that have access and the error
 * for the others. The tenancy tests send each operation as every caller.
 */
import type { AccessPolicy } from "@castellan/domain/identity/AccessRule.ts"

/** The callers with a valid key. The victim and those up to `removed` are in the first organization. */
export const callers = [
  /** A member. Most of the requested things are its own. */
  "victim",
  "owner",
  "admin",
  "member",
  /** Has an invitation and has not accepted it. */
  "invited",
  "removed",
  /** Owner and member of the other organization. */
  "otherOwner",
  "otherMember",
  /** In no organization. */
  "stranger",
  "platformAdmin"
] as const
export type Caller = (typeof callers)[number]

/** The owner of the requested things: the victim, or the organization itself. */
export const targets = ["victim", "organization"] as const
export type Target = (typeof targets)[number]

/** The things with an id. */
export type Thing =
  "sandbox" | "session" | "run" | "liveRun" | "apiKey" | "snapshot" | "app" | "organization" | "newcomer"

/** The error for callers without access. */
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
/** A list without rows. Its other fields are the caller's own. */
const emptyList: Refusal = { status: 200, body: { status: "success", sandboxes: [] } }

/** The callers with access, and the error for the others. */
export interface Rule {
  readonly allowed: (policy: AccessPolicy, target: Target) => ReadonlyArray<Caller>
  readonly refusalFor: (caller: Caller) => Refusal
  /** Public. */
  readonly isPublic?: true
}

const everyone: Rule = { allowed: () => callers, refusalFor: () => unauthorized, isPublic: true }

/** Every caller, for itself. */
const anyAccount: Rule = { allowed: () => callers, refusalFor: () => unauthorized }

const platformAdmins: Rule = { allowed: () => ["platformAdmin"], refusalFor: () => forbidden }

/** The callers that may act for the account `account_id`. */
const peers: Rule = {
  allowed: (policy, target) => [
    ...(policy === "peers" || target === "victim" ? (["victim"] as const) : []),
    "owner",
    "admin",
    ...(policy === "peers" ? (["member"] as const) : []),
    "platformAdmin"
  ],
  refusalFor: () => accessDenied
}

/** The account itself, and platform admins. */
const itself: Rule = {
  allowed: (_, target) => (target === "victim" ? ["victim", "platformAdmin"] : ["platformAdmin"]),
  refusalFor: () => accessDenied
}

/** The account itself, also if others may act for it. */
const holder: Rule = { allowed: () => ["victim"], refusalFor: () => forbidden }

/** The account itself; for others the app does not exist. */
const builder: Rule = { allowed: () => ["victim"], refusalFor: () => appNotFound }

/** Members. A session is never for another account. */
const workers: Rule = { allowed: () => ["victim", "owner", "admin", "member"], refusalFor: () => organizationDenied }

const members: Rule = {
  allowed: () => ["victim", "owner", "admin", "member", "platformAdmin"],
  refusalFor: () => organizationNotFound
}

/** Owners and admins. Members get 403; for others the organization does not exist. */
const leaders: Rule = {
  allowed: () => ["owner", "admin", "platformAdmin"],
  refusalFor: (caller) => (caller === "victim" || caller === "member" ? forbidden : organizationNotFound)
}

/** Invited accounts; one that has accepted may accept again. */
const invitees: Rule = {
  allowed: () => ["invited", "victim", "owner", "admin", "member"],
  refusalFor: () => organizationNotFound
}

export interface Expectation {
  readonly who: Rule
  /** The ids that it takes besides `account_id`: the parameter or field, and the kind of thing. */
  readonly idFields?: Readonly<Record<string, Thing>>
  /** The response to a foreign id in a request for the caller's own account; the same as for an unknown id. */
  readonly foreignIdResponse?: Refusal
  /** The response to an unknown id, if existence is no secret. */
  readonly unknownIdResponse?: Refusal
  /** Further fields of a request that succeeds. */
  readonly query?: Readonly<Record<string, string>>
  readonly body?: Readonly<Record<string, unknown>>
  /** Fields that exclude each other. */
  readonly exclusiveFields?: Readonly<Record<string, unknown>>
  /** Whether it can't be repeated for the same things. */
  readonly isUnrepeatable?: true
  /** Whether what it creates, and its saved response, stay the caller's own. */
  readonly staysPrivate?: true
  /** Whether its response never ends, so that only its beginning is read. */
  readonly endless?: true
}

/** A repository that every session may use. */
export const sharedRepo = {
  owner: "castellan",
  name: "shared",
  url: "https://repositories.memory.test/castellan/shared"
}

const sandbox: Expectation = { who: peers, idFields: { sandboxId: "sandbox" }, foreignIdResponse: sandboxNotFound }

const app: Expectation = { who: builder, idFields: { sandboxId: "app" } }

const session: Expectation = { who: holder, idFields: { id: "session" }, unknownIdResponse: sessionNotFound }
const sessionSandbox: Expectation = { ...session, idFields: { sessionId: "session" } }

export const expectations: Readonly<Record<string, Expectation>> = {
  "system.health": { who: everyone },
  "system.ready": { who: everyone },

  "accounts.create": { who: platformAdmins, body: { name: "Ada" } },
  "admins.sandboxes": { who: platformAdmins },

  "keys.issue": { who: itself, body: { name: "another" } },
  "keys.list": { who: itself },
  "keys.revoke": { who: itself, idFields: { id: "apiKey" }, foreignIdResponse: keyNotFound, isUnrepeatable: true },

  "organizations.create": { who: anyAccount, body: { name: "A third one" } },
  "organizations.list": { who: anyAccount },
  "organizations.members": { who: members, idFields: { id: "organization" } },
  "organizations.invite": { who: leaders, idFields: { id: "organization", accountId: "newcomer" } },
  "organizations.accept": { who: invitees, idFields: { id: "organization" } },
  "organizations.remove": { who: leaders, idFields: { id: "organization", accountId: "newcomer" } },

  "sandboxes.create": {
    who: peers,
    idFields: { snapshotId: "snapshot" },
    foreignIdResponse: snapshotNotFound,
    body: { command: "true" },
    exclusiveFields: { command: "true", prompt: "both" }
  },
  "sandboxes.list": { who: peers, idFields: { sandbox_id: "sandbox" }, foreignIdResponse: emptyList },
  "sandboxes.change": { who: peers, idFields: { snapshotId: "snapshot" }, foreignIdResponse: snapshotNotFound },
  "sandboxes.clear": { who: peers, isUnrepeatable: true },
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
  "sandbox.remove": { ...sandbox, isUnrepeatable: true },

  "runs.list": { who: peers, idFields: { runId: "run" }, foreignIdResponse: runNotFound },
  "runs.logs": { who: peers, idFields: { runId: "run" }, foreignIdResponse: runNotFound },
  "runs.cancel": { who: peers, idFields: { runId: "liveRun" }, foreignIdResponse: runNotFound, isUnrepeatable: true },

  "sessions.create": {
    who: workers,
    idFields: { organizationId: "organization" },
    body: { title: "work" },
    staysPrivate: true
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
  "sessionSandbox.hibernate": { ...sessionSandbox, isUnrepeatable: true },

  "apps.create": { who: anyAccount, isUnrepeatable: true },
  "apps.files": app,
  "apps.diagnose": app,
  "apps.install": { ...app, body: { packages: ["left-pad"] } },
  "apps.apply": { ...app, body: { files: [{ path: "src/a.ts", content: "" }] } },
  // An unknown or foreign app has no effect.
  "apps.kill": { who: anyAccount, idFields: { sandboxId: "app" }, isUnrepeatable: true },

  "events.follow": { who: peers, endless: true }
}
