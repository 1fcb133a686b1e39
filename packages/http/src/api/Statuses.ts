/** The status, code and sentence of every error of the API. No other file knows both domain errors and HTTP statuses. */
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
import { Schema } from "effect"
import { onWire } from "./ApiError.ts"
import { type ErrorBody, reasonDetails } from "./ErrorBody.ts"

/** The request has two credentials, or none. */
export class CredentialsUnclear extends Schema.TaggedError<CredentialsUnclear>()("CredentialsUnclear", {}) {}

/**
 * The request is invalid. Middleware responds with it if a schema refuses the request, handlers for rules that schemas
 * can't express.
 */
export class RequestRefused extends Schema.TaggedError<RequestRefused>()("RequestRefused", {
  /** The sentence for the caller. */
  say: Schema.String,
  /** The paths of the missing or invalid fields. */
  fields: Schema.optional(Schema.Array(Schema.String))
}) {}

/** The request has a body or query field that its operation does not know. */
export class UnknownField extends Schema.TaggedError<UnknownField>()("UnknownField", { name: Schema.String }) {}

/** The request body is not JSON. */
export class BodyNotJson extends Schema.TaggedError<BodyNotJson>()("BodyNotJson", {}) {}

/** The request body is longer than its operation allows, in bytes. */
export class BodyTooLarge extends Schema.TaggedError<BodyTooLarge>()("BodyTooLarge", { limit: Schema.Int }) {}

/** The request body has a media type that its operation does not take. */
export class MediaTypeUnsupported extends Schema.TaggedError<MediaTypeUnsupported>()("MediaTypeUnsupported", {
  /** The media type that it takes. */
  expected: Schema.String
}) {}

/** No operation has the request's path. */
export class RouteNotFound extends Schema.TaggedError<RouteNotFound>()("RouteNotFound", {}) {}

/** No operation at the request's path has its method. */
export class MethodNotAllowed extends Schema.TaggedError<MethodNotAllowed>()("MethodNotAllowed", {}) {}

/** A fault of the server. */
export class InternalError extends Schema.TaggedError<InternalError>()("InternalError", {}) {}

/** The idempotency key was used for another request. */
export class IdempotencyKeyReused extends Schema.TaggedError<IdempotencyKeyReused>()("IdempotencyKeyReused", {}) {}

/** The first request with this idempotency key is still running. */
export class IdempotencyInFlight extends Schema.TaggedError<IdempotencyInFlight>()("IdempotencyInFlight", {}) {}

/** A required part of the server does not respond, or the server is shutting down. */
export class NotReady extends Schema.TaggedError<NotReady>()("NotReady", {
  /** The sentence for the caller. */
  say: Schema.String
}) {}

/** The keys of the identity provider can't be read, so no token can be verified. */
export class IdentityProviderUnavailable extends Schema.TaggedError<IdentityProviderUnavailable>()(
  "IdentityProviderUnavailable",
  {}
) {}

/** The account sent more requests than its rate limit allows; the next is allowed after `retryAfterMs`. */
export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", { retryAfterMs: Schema.Int }) {}

/** The account has reached its limit of open streams, waits and transfers at this server. */
export class TooManyStreams extends Schema.TaggedError<TooManyStreams>()("TooManyStreams", { limit: Schema.Int }) {}

/** The provider did not report the status of an app. */
export class AppStatusUnknown extends Schema.TaggedError<AppStatusUnknown>()("AppStatusUnknown", {
  cause: InternalCause
}) {}

/** The provider did not end an app. The intent is stored, and the reconciler tries again. */
export class AppNotTerminated extends Schema.TaggedError<AppNotTerminated>()("AppNotTerminated", {
  cause: InternalCause
}) {}

/** The organization does not exist, or the caller is not a member of it. */
export class OrganizationHidden extends Schema.TaggedError<OrganizationHidden>()("OrganizationHidden", {}) {}

/** Milliseconds to wait before a retry if a sandbox has to stop first. */
const quotaRetryMs = 60_000

/** Milliseconds to wait before a retry if one of the account's streams has to end first. */
const streamRetryMs = 5000

/** Milliseconds to wait before a retry after a transient failure. */
const transientRetryMs = 1000

const transient = { retryAfterMs: transientRetryMs }

const mebibytes = (bytes: number) => `${bytes / 1024 / 1024} MiB`

/** Recognizes an error by its sentence if another error of the operation has the same code. */
const says = (code: string, sentence: string) => (body: ErrorBody) => body.code === code && body.error === sentence

/** An error with one sentence, whose code other errors share. */
const sharing = (code: string, error: string) => ({ code, error, matches: says(code, error) })

export const Statuses = {
  // The request.
  RequestRefused: onWire(RequestRefused, {
    status: 400,
    code: "invalid_request",
    error: ({ say }) => say,
    details: ({ fields }) => (fields === undefined ? {} : { missing_fields: fields }),
    summary: "The request is invalid; `missing_fields` names the fields at fault"
  }),
  UnknownField: onWire(UnknownField, {
    status: 400,
    code: "unknown_field",
    error: ({ name }) => `unknown field: ${name}`,
    summary: "The body or the query has a field that the operation does not know"
  }),
  BodyNotJson: onWire(BodyNotJson, { status: 400, code: "invalid_json", error: "Request body must be valid JSON" }),
  BodyTooLarge: onWire(BodyTooLarge, {
    status: 413,
    code: "body_too_large",
    error: ({ limit }) => `Request body must be at most ${mebibytes(limit)}`,
    summary: "The request body is too large"
  }),
  MediaTypeUnsupported: onWire(MediaTypeUnsupported, {
    status: 415,
    code: "unsupported_media_type",
    error: ({ expected }) => `Content-Type must be ${expected}`,
    summary: "The operation does not take this Content-Type"
  }),
  RouteNotFound: onWire(RouteNotFound, { status: 404, code: "not_found", error: "Not found" }),
  MethodNotAllowed: onWire(MethodNotAllowed, { status: 405, code: "method_not_allowed", error: "Method not allowed" }),

  // The server.
  InternalError: onWire(InternalError, { status: 500, code: "internal_error", error: "Internal server error" }),
  NotReady: onWire(NotReady, {
    status: 503,
    code: "not_ready",
    error: ({ say }) => say,
    details: transient,
    summary: "A part that the server needs does not answer, or the server is shutting down"
  }),

  // Credentials and limits.
  CredentialsUnclear: onWire(CredentialsUnclear, {
    status: 401,
    code: "credentials_unclear",
    error: "Exactly one of x-api-key or Authorization must be provided"
  }),
  InvalidCredential: onWire(InvalidCredential, {
    status: 401,
    code: "unauthorized",
    error: "Unauthorized",
    summary: "The credential is unknown, revoked or expired"
  }),
  IdentityProviderUnavailable: onWire(IdentityProviderUnavailable, {
    status: 503,
    code: "identity_provider_unavailable",
    error: "The identity provider does not answer",
    details: transient
  }),
  RateLimited: onWire(RateLimited, {
    status: 429,
    code: "rate_limited",
    error: "Too many requests",
    details: ({ retryAfterMs }) => ({ retryAfterMs })
  }),
  TooManyStreams: onWire(TooManyStreams, {
    status: 429,
    code: "quota_exceeded",
    error: ({ limit }) =>
      `The account has ${limit} streams, waits and transfers open at this server, which is as many as it may have`,
    details: { retryAfterMs: streamRetryMs },
    summary: "The account has as many open streams, waits and transfers at this server as it may have",
    matches: ({ code, error }) => code === "quota_exceeded" && error.includes("streams, waits and transfers")
  }),
  SandboxQuotaReached: onWire(SandboxQuotaReached, {
    status: 429,
    code: "quota_exceeded",
    error: ({ limit }) => `The account has ${limit} live sandboxes, which is as many as it may have`,
    details: { retryAfterMs: quotaRetryMs },
    summary: "The account has as many live sandboxes as it may have",
    matches: ({ code, error }) => code === "quota_exceeded" && error.includes("live sandboxes")
  }),
  IdempotencyKeyReused: onWire(IdempotencyKeyReused, {
    status: 422,
    code: "idempotency_key_reused",
    error: "The idempotency key was used for another request"
  }),
  IdempotencyInFlight: onWire(IdempotencyInFlight, {
    status: 409,
    code: "idempotency_in_flight",
    error: "The first request with this idempotency key is still running",
    details: transient
  }),

  // Accounts and organizations.
  AccountForbidden: onWire(AccountForbidden, {
    status: 403,
    code: "access_denied",
    error: "Access denied to specified account_id"
  }),
  NotPlatformAdmin: onWire(NotPlatformAdmin, {
    status: 403,
    code: "forbidden",
    error: "Forbidden",
    summary: "The caller is not a platform admin"
  }),
  RoleNotPermitted: onWire(RoleNotPermitted, {
    status: 403,
    code: "forbidden",
    error: "Forbidden",
    summary: "The caller's role in the organization does not permit it"
  }),
  OrganizationHidden: onWire(OrganizationHidden, {
    status: 403,
    code: "access_denied",
    error: "Access denied to specified organization_id"
  }),
  OrganizationNotFound: onWire(OrganizationNotFound, {
    status: 404,
    code: "organization_not_found",
    error: "Organization not found"
  }),
  AccountUnknown: onWire(AccountUnknown, { status: 404, code: "account_not_found", error: "Account not found" }),
  LastOwner: onWire(LastOwner, { status: 409, code: "last_owner", error: "The last owner can't leave" }),
  OrganizationCannotJoinItself: onWire(OrganizationCannotJoinItself, {
    status: 400,
    ...sharing("invalid_request", "An organization can't be a member of itself"),
    details: { missing_fields: ["accountId"] }
  }),
  ApiKeyNotFound: onWire(ApiKeyNotFound, { status: 404, code: "api_key_not_found", error: "API key not found" }),

  // Sandboxes.
  SandboxNotFound: onWire(SandboxNotFound, { status: 404, code: "sandbox_not_found", error: "Sandbox not found" }),
  SandboxNotRunning: onWire(SandboxNotRunning, {
    status: 409,
    code: "sandbox_not_running",
    error: "Sandbox is not running"
  }),
  SandboxNotCreated: onWire(SandboxNotCreated, {
    status: 502,
    code: "sandbox_not_created",
    error: "Failed to create sandbox",
    details: ({ reason }) => reasonDetails(reason)
  }),
  SandboxUnavailable: onWire(SandboxUnavailable, {
    status: 502,
    code: (failure) => (failure.fault === undefined ? "provider_unavailable" : providerReason(failure).code),
    error: (failure) =>
      failure.fault === undefined ? "The sandbox provider could not be reached" : providerReason(failure).sentence,
    details: (failure) => reasonDetails(providerReason(failure)),
    summary:
      "The sandbox provider could not be reached (`provider_unavailable`), or a program inside the sandbox did not answer in time (`sandbox_no_answer`) or gave an unusable answer (`sandbox_bad_answer`)",
    matches: ({ code }) => ["provider_unavailable", "sandbox_no_answer", "sandbox_bad_answer"].includes(code)
  }),
  FileNotFound: onWire(FileNotFound, { status: 404, code: "file_not_found", error: "File not found" }),
  FileRefused: onWire(FileRefused, {
    status: 403,
    code: "file_refused",
    error: ({ reason }) => `The file can't be read or written there: ${reason}`,
    summary: "The sandbox's user can't read or write the file there"
  }),
  SnapshotNotFound: onWire(SnapshotNotFound, { status: 404, code: "snapshot_not_found", error: "Snapshot not found" }),
  SnapshotInProgress: onWire(SnapshotInProgress, {
    status: 409,
    code: "snapshot_in_progress",
    error: "Another snapshot of the sandbox is being taken",
    details: transient
  }),
  TaskRunNotFound: onWire(TaskRunNotFound, { status: 404, code: "task_run_not_found", error: "Task run not found" }),

  // Repositories.
  NoRepository: onWire(NoRepository, {
    status: 404,
    code: "repository_not_found",
    error: "No GitHub repository found for this account"
  }),
  RepoFileNotFound: onWire(RepoFileNotFound, {
    status: 404,
    code: "file_not_found",
    error: "File not found in repository"
  }),
  RepoFileTooLarge: onWire(RepoFileTooLarge, {
    status: 413,
    code: "file_too_large",
    error: `The file is larger than ${mebibytes(maxFileBytes)}`
  }),
  RepoUnavailable: onWire(RepoUnavailable, {
    status: 502,
    code: "repository_host_unavailable",
    error: "The repository host could not be reached",
    details: (failure) => reasonDetails(repoReason(failure))
  }),
  RepoNotReadable: onWire(RepoNotReadable, {
    status: 400,
    code: "repository_not_readable",
    error: "github_repo must be a repository that can be read",
    details: {
      reason: "The repository does not exist, is private, or is at another host",
      reasonCode: "repository_not_found"
    }
  }),
  RepoNotDeleted: onWire(RepoNotDeleted, {
    status: 502,
    code: "repository_not_deleted",
    error: "Failed to delete GitHub repository",
    details: ({ retryable }) => (retryable ? transient : {})
  }),

  // Sessions.
  SessionNotFound: onWire(SessionNotFound, { status: 404, code: "session_not_found", error: "Session not found" }),
  SessionForbidden: onWire(SessionForbidden, {
    status: 403,
    code: "forbidden",
    error: "Forbidden",
    summary: "The session belongs to another account"
  }),
  SessionArchived: onWire(SessionArchived, { status: 409, code: "session_archived", error: "Session is archived" }),
  SessionNotProvisioned: onWire(SessionNotProvisioned, {
    status: 502,
    code: "sandbox_not_provisioned",
    error: "Failed to provision sandbox",
    details: ({ reason }) => reasonDetails(reason)
  }),
  SessionRepoUnusable: onWire(SessionRepoUnusable, {
    status: 400,
    code: "sandbox_not_provisioned",
    error: "Failed to provision sandbox",
    details: ({ reason }) => reasonDetails(reason),
    summary: "The repository or its branch can't be checked out"
  }),
  RepoRefused: onWire(RepoRefused, {
    status: 400,
    ...sharing("invalid_request", "repoUrl must be a valid GitHub repository URL"),
    details: { missing_fields: ["repoUrl"] }
  }),
  RepoDiffers: onWire(RepoDiffers, {
    status: 400,
    ...sharing("invalid_request", "repoUrl must be the repository of the session"),
    details: { missing_fields: ["repoUrl"] }
  }),

  // Web apps.
  AppNotFound: onWire(AppNotFound, { status: 404, code: "sandbox_not_found", error: "No active sandbox found" }),
  AppNotCreated: onWire(AppNotCreated, {
    status: 500,
    code: "sandbox_not_created",
    error: "Failed to create sandbox",
    details: ({ reason }) => reasonDetails(reason)
  }),
  AppStatusUnknown: onWire(AppStatusUnknown, {
    status: 500,
    code: "provider_unavailable",
    error: "Failed to retrieve sandbox status",
    details: transient
  }),
  AppNotTerminated: onWire(AppNotTerminated, {
    status: 500,
    code: "provider_unavailable",
    error: "Failed to terminate sandbox",
    details: transient
  }),
  FilesNotListed: onWire(FilesNotListed, {
    status: 500,
    code: "files_not_listed",
    error: "Failed to retrieve file list"
  }),
  PackageNotFound: onWire(PackageNotFound, {
    status: 400,
    code: "package_not_found",
    error: ({ package: name }) => `Package ${name} is not in the registry`,
    details: ({ reason }) => ({ detail: reason }),
    summary: "A package is not in the registry"
  }),
  PackagesNotInstalled: onWire(PackagesNotInstalled, {
    status: 500,
    code: "packages_not_installed",
    error: "Failed to install packages",
    details: ({ reason }) => ({ detail: reason })
  })
}

/** Errors that the middleware can answer to a request of any operation. */
export const anyOperation = [
  Statuses.UnknownField,
  Statuses.RequestRefused,
  Statuses.BodyNotJson,
  Statuses.BodyTooLarge,
  Statuses.MediaTypeUnsupported,
  Statuses.InternalError,
  Statuses.NotReady
]
