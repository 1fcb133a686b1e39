/** What each failure is on the wire: the only place that knows both the domain's errors and HTTP's statuses. */
import { AccountForbidden } from "@castellan/domain/identity/AccountScope.ts"
import { FilesNotListed, PackageNotFound, PackagesNotInstalled } from "@castellan/domain/app/AppFiles.ts"
import { AppNotCreated, AppNotFound } from "@castellan/domain/app/AppSandboxes.ts"
import { ApiKeyNotFound } from "@castellan/domain/identity/ApiKeys.ts"
import { InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import {
  AccountUnknown,
  LastOwner,
  OrganizationNotFound,
  OrganizationCannotJoinItself,
  RoleNotPermitted
} from "@castellan/domain/identity/Organizations.ts"
import { NotPlatformAdmin } from "@castellan/domain/identity/PlatformAdmin.ts"
import { SandboxNotCreated } from "@castellan/domain/account/AccountSandboxes.ts"
import {
  NoRepository,
  RepoNotDeleted,
  RepoNotReadable,
  SnapshotNotFound
} from "@castellan/domain/account/Environments.ts"
import { SandboxNotFound } from "@castellan/domain/account/SandboxOperations.ts"
import { SnapshotInProgress } from "@castellan/domain/account/Snapshots.ts"
import { repoReason } from "@castellan/domain/repo/Checkouts.ts"
import { maxFileBytes, RepoFileNotFound, RepoFileTooLarge, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { providerReason } from "@castellan/domain/sandbox/providerReason.ts"
import {
  FileNotFound,
  FileRefused,
  SandboxNotRunning,
  SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import {
  RepoDiffers,
  RepoRefused,
  SessionArchived,
  SessionForbidden,
  SessionNotFound
} from "@castellan/domain/session/Sessions.ts"
import { SessionNotProvisioned, SessionRepoUnusable } from "@castellan/domain/session/SessionSandboxes.ts"
import { TaskRunNotFound } from "@castellan/domain/task/TaskRuns.ts"
import { InternalCause } from "@castellan/domain/InternalCause.ts"
import { Schema, SchemaGetter } from "effect"
import { HttpApiSchema } from "effect/http-api"
import { ErrorBody, errorBody, told } from "./ErrorBody.ts"

/** The request came with two credentials, or with none. */
export class CredentialsUnclear extends Schema.TaggedError<CredentialsUnclear>()("CredentialsUnclear", {}) {}

/** The request asks for two things that exclude each other, or for something no schema can rule out. */
export class RequestRefused extends Schema.TaggedError<RequestRefused>()("RequestRefused", {
  say: Schema.String,
  /** The paths of the fields at fault. */
  fields: Schema.optional(Schema.Array(Schema.String))
}) {}

/** The request has a body or query field that its operation does not know. */
export class UnknownField extends Schema.TaggedError<UnknownField>()("UnknownField", { name: Schema.String }) {}

/** The idempotency key was used for another request. */
export class IdempotencyKeyReused extends Schema.TaggedError<IdempotencyKeyReused>()("IdempotencyKeyReused", {}) {}

/** The first request with this idempotency key is still running. */
export class IdempotencyInFlight extends Schema.TaggedError<IdempotencyInFlight>()("IdempotencyInFlight", {}) {}

/** A part the server can't do without does not answer, or the server itself is about to end. */
export class NotReady extends Schema.TaggedError<NotReady>()("NotReady", {
  part: Schema.String,
  /** What is wrong with it, in words that follow its name; it does not answer if left out. */
  reason: Schema.optional(Schema.String)
}) {}

/** The keys of the identity provider can't be read, so that no token can be told from another. */
export class IdentityProviderUnavailable extends Schema.TaggedError<IdentityProviderUnavailable>()(
  "IdentityProviderUnavailable",
  {}
) {}

/** The account asked more often than it may; after `retryAfterMs` it may again. */
export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", { retryAfterMs: Schema.Int }) {}

/** The account has as many streams, waits and transfers open at this server as it may have. */
export class TooManyStreams extends Schema.TaggedError<TooManyStreams>()("TooManyStreams", { limit: Schema.Int }) {}

/** The body is longer than this endpoint takes, in bytes. */
export class BodyTooLarge extends Schema.TaggedError<BodyTooLarge>()("BodyTooLarge", { limit: Schema.Int }) {}

/** The provider could not be asked how an app is. */
export class AppStatusUnknown extends Schema.TaggedError<AppStatusUnknown>()("AppStatusUnknown", {
  cause: InternalCause
}) {}

/** The provider did not end an app; that it is to end is written down, and it is tried again. */
export class AppNotTerminated extends Schema.TaggedError<AppNotTerminated>()("AppNotTerminated", {
  cause: InternalCause
}) {}

/** How long to wait where only somebody's stopping a sandbox helps, in milliseconds. */
const quotaRetryMs = 60_000

/** How long to wait for one of an account's own streams to end, in milliseconds. */
const streamRetryMs = 5000

const mebibytes = (bytes: number) => `${bytes / 1024 / 1024} MiB`

const retryAfterMs = (retryable: boolean) => (retryable ? { retryAfterMs: 1000 } : {})

const onWire = <E extends Schema.Top>(error: E, status: number, toBody: (error: E["Type"]) => ErrorBody) =>
  ErrorBody.pipe(
    Schema.decodeTo(Schema.toType(error), {
      decode: SchemaGetter.forbidden(() => "an error body does not say enough to make the error again"),
      encode: SchemaGetter.transform(toBody)
    }),
    HttpApiSchema.status(status)
  )

/** The organization is not one the caller is a member of, or there is none. */
export class OrganizationHidden extends Schema.TaggedError<OrganizationHidden>()("OrganizationHidden", {}) {}

export const Statuses = {
  CredentialsUnclear: onWire(CredentialsUnclear, 401, () =>
    errorBody("credentials_unclear", "Exactly one of x-api-key or Authorization must be provided")
  ),
  InvalidCredential: onWire(InvalidCredential, 401, () => errorBody("unauthorized", "Unauthorized")),
  AccountForbidden: onWire(AccountForbidden, 403, () =>
    errorBody("access_denied", "Access denied to specified account_id")
  ),
  NotPlatformAdmin: onWire(NotPlatformAdmin, 403, () => errorBody("forbidden", "Forbidden")),
  RoleNotPermitted: onWire(RoleNotPermitted, 403, () => errorBody("forbidden", "Forbidden")),
  OrganizationNotFound: onWire(OrganizationNotFound, 404, () =>
    errorBody("organization_not_found", "Organization not found")
  ),
  AccountUnknown: onWire(AccountUnknown, 404, () => errorBody("account_not_found", "Account not found")),
  LastOwner: onWire(LastOwner, 409, () => errorBody("last_owner", "The last owner can't leave")),
  OrganizationCannotJoinItself: onWire(OrganizationCannotJoinItself, 400, () =>
    errorBody("invalid_request", "An organization can't be a member of itself", { missing_fields: ["accountId"] })
  ),
  RequestRefused: onWire(RequestRefused, 400, ({ fields, say }) =>
    errorBody("invalid_request", say, fields === undefined ? {} : { missing_fields: fields })
  ),
  UnknownField: onWire(UnknownField, 400, ({ name }) => errorBody("unknown_field", `unknown field: ${name}`)),
  ApiKeyNotFound: onWire(ApiKeyNotFound, 404, () => errorBody("api_key_not_found", "API key not found")),
  TaskRunNotFound: onWire(TaskRunNotFound, 404, () => errorBody("task_run_not_found", "Task run not found")),
  SandboxNotCreated: onWire(SandboxNotCreated, 502, ({ reason }) =>
    errorBody("sandbox_not_created", "Failed to create sandbox", told(reason))
  ),
  SandboxQuotaReached: onWire(SandboxQuotaReached, 429, ({ limit }) =>
    errorBody("quota_exceeded", `The account has ${limit} live sandboxes, which is as many as it may have`, {
      retryAfterMs: quotaRetryMs
    })
  ),
  RateLimited: onWire(RateLimited, 429, ({ retryAfterMs }) =>
    errorBody("rate_limited", "Too many requests", { retryAfterMs })
  ),
  TooManyStreams: onWire(TooManyStreams, 429, ({ limit }) =>
    errorBody(
      "quota_exceeded",
      `The account has ${limit} streams, waits and transfers open at this server, which is as many as it may have`,
      { retryAfterMs: streamRetryMs }
    )
  ),
  SandboxNotFound: onWire(SandboxNotFound, 404, () => errorBody("sandbox_not_found", "Sandbox not found")),
  SandboxNotRunning: onWire(SandboxNotRunning, 409, () => errorBody("sandbox_not_running", "Sandbox is not running")),
  FileNotFound: onWire(FileNotFound, 404, () => errorBody("file_not_found", "File not found")),
  FileRefused: onWire(FileRefused, 403, ({ reason }) =>
    errorBody("file_refused", `The file can't be read or written there: ${reason}`)
  ),
  BodyTooLarge: onWire(BodyTooLarge, 413, ({ limit }) =>
    errorBody("body_too_large", `Request body must be at most ${mebibytes(limit)}`)
  ),
  SnapshotNotFound: onWire(SnapshotNotFound, 404, () => errorBody("snapshot_not_found", "Snapshot not found")),
  SnapshotInProgress: onWire(SnapshotInProgress, 409, () =>
    errorBody("snapshot_in_progress", "Another snapshot of the sandbox is being taken", { retryAfterMs: 1000 })
  ),
  NoRepository: onWire(NoRepository, 404, () =>
    errorBody("repository_not_found", "No GitHub repository found for this account")
  ),
  RepoFileNotFound: onWire(RepoFileNotFound, 404, () => errorBody("file_not_found", "File not found in repository")),
  RepoFileTooLarge: onWire(RepoFileTooLarge, 413, () =>
    errorBody("file_too_large", `The file is larger than ${mebibytes(maxFileBytes)}`)
  ),
  RepoUnavailable: onWire(RepoUnavailable, 502, (failure) =>
    errorBody("repository_host_unavailable", "The repository host could not be reached", told(repoReason(failure)))
  ),
  RepoNotReadable: onWire(RepoNotReadable, 400, () =>
    errorBody("repository_not_readable", "github_repo must be a repository that can be read", {
      reason: "The repository does not exist, is private, or is at another host",
      reasonCode: "repository_not_found"
    })
  ),
  RepoNotDeleted: onWire(RepoNotDeleted, 502, ({ retryable }) =>
    errorBody("repository_not_deleted", "Failed to delete GitHub repository", retryAfterMs(retryable))
  ),
  OrganizationHidden: onWire(OrganizationHidden, 403, () =>
    errorBody("access_denied", "Access denied to specified organization_id")
  ),
  SessionNotFound: onWire(SessionNotFound, 404, () => errorBody("session_not_found", "Session not found")),
  SessionForbidden: onWire(SessionForbidden, 403, () => errorBody("forbidden", "Forbidden")),
  SessionArchived: onWire(SessionArchived, 409, () => errorBody("session_archived", "Session is archived")),
  SessionNotProvisioned: onWire(SessionNotProvisioned, 502, ({ reason }) =>
    errorBody("sandbox_not_provisioned", "Failed to provision sandbox", told(reason))
  ),
  SessionRepoUnusable: onWire(SessionRepoUnusable, 400, ({ reason }) =>
    errorBody("sandbox_not_provisioned", "Failed to provision sandbox", told(reason))
  ),
  RepoRefused: onWire(RepoRefused, 400, () =>
    errorBody("invalid_request", "repoUrl must be a valid GitHub repository URL", { missing_fields: ["repoUrl"] })
  ),
  RepoDiffers: onWire(RepoDiffers, 400, () =>
    errorBody("invalid_request", "repoUrl must be the repository of the session", { missing_fields: ["repoUrl"] })
  ),
  SandboxUnavailable: onWire(SandboxUnavailable, 502, (failure) => {
    const reason = providerReason(failure)
    return failure.fault === undefined
      ? errorBody("provider_unavailable", "The sandbox provider could not be reached", told(reason))
      : errorBody(reason.code, reason.sentence, told(reason))
  }),
  AppNotFound: onWire(AppNotFound, 404, () => errorBody("sandbox_not_found", "No active sandbox found")),
  AppNotCreated: onWire(AppNotCreated, 500, ({ reason }) =>
    errorBody("sandbox_not_created", "Failed to create sandbox", told(reason))
  ),
  AppStatusUnknown: onWire(AppStatusUnknown, 500, () =>
    errorBody("provider_unavailable", "Failed to retrieve sandbox status", { retryAfterMs: 1000 })
  ),
  AppNotTerminated: onWire(AppNotTerminated, 500, () =>
    errorBody("provider_unavailable", "Failed to terminate sandbox", { retryAfterMs: 1000 })
  ),
  FilesNotListed: onWire(FilesNotListed, 500, () => errorBody("files_not_listed", "Failed to retrieve file list")),
  PackageNotFound: onWire(PackageNotFound, 400, ({ package: name, reason }) =>
    errorBody("package_not_found", `Package ${name} is not in the registry`, { detail: reason })
  ),
  PackagesNotInstalled: onWire(PackagesNotInstalled, 500, ({ reason }) =>
    errorBody("packages_not_installed", "Failed to install packages", { detail: reason })
  ),
  IdempotencyKeyReused: onWire(IdempotencyKeyReused, 422, () =>
    errorBody("idempotency_key_reused", "The idempotency key was used for another request")
  ),
  IdempotencyInFlight: onWire(IdempotencyInFlight, 409, () =>
    errorBody("idempotency_in_flight", "The first request with this idempotency key is still running", {
      retryAfterMs: 1000
    })
  ),
  IdentityProviderUnavailable: onWire(IdentityProviderUnavailable, 503, () =>
    errorBody("identity_provider_unavailable", "The identity provider does not answer", { retryAfterMs: 1000 })
  ),
  NotReady: onWire(NotReady, 503, ({ part, reason = "does not answer" }) =>
    errorBody("not_ready", `The ${part} ${reason}`, { retryAfterMs: 1000 })
  )
}
