/** The server's configuration, read from environment variables. Adapters read their own. */
import { defaultTimes as usualAppTimes } from "@castellan/domain/app/AppTimes.ts"
import { defaultTimes } from "@castellan/domain/session/decide.ts"
import { Duration, Effect, Option, Redacted } from "effect"
import * as Limits from "../middleware/Limits.ts"
import * as PreviewHost from "../preview/PreviewHost.ts"
import * as Castellan from "./Castellan.ts"
import * as Setting from "./Setting.ts"
import * as Shutdown from "./Shutdown.ts"

const { integer, invalid, oneOf, optional, pairs, text, webUrl, withDefault } = Setting

const host = withDefault(
  "HOST",
  {
    mustBe: "a host name or an IP address",
    parse: (value) => (/^[A-Za-z0-9.:_-]+$/.test(value) ? value : undefined)
  },
  "127.0.0.1"
)

const adminKey = optional("CASTELLAN_ADMIN_KEY", {
  mustBe: "at least 24 printable characters without spaces",
  parse: (value) => (/^[\x21-\x7e]{24,}$/.test(value) ? Redacted.make(value) : undefined),
  isSecret: true
})

const secret = optional("CASTELLAN_SECRET", {
  mustBe: "64 hexadecimal digits, as `openssl rand -hex 32` prints them",
  parse: (value) =>
    /^[0-9a-fA-F]{64}$/.test(value) ? Redacted.make(Uint8Array.from(Buffer.from(value, "hex"))) : undefined,
  isSecret: true
})

/** The collector of traces and metrics; undefined where no endpoint is set. */
const telemetry = Effect.gen(function* () {
  const endpoint = yield* optional("OTEL_EXPORTER_OTLP_ENDPOINT", webUrl)
  if (Option.isNone(endpoint)) return undefined
  const headers = yield* withDefault("OTEL_EXPORTER_OTLP_HEADERS", pairs, {})
  const attributes = yield* withDefault("OTEL_RESOURCE_ATTRIBUTES", pairs, {})
  const serviceName = Option.getOrUndefined(yield* text("OTEL_SERVICE_NAME"))
  return {
    endpoint: endpoint.value.trim(),
    headers: Redacted.make(headers),
    serviceName: serviceName ?? attributes["service.name"] ?? "castellan",
    attributes
  }
})

const logLevels = { debug: "Debug", info: "Info", warn: "Warn", error: "Error" } as const

/** Variables whose values are redacted in log lines. */
const secretVariables = ["CASTELLAN_SECRET", "CASTELLAN_ADMIN_KEY", "GITHUB_TOKEN", "VERCEL_TOKEN", "DATABASE_URL"]

/** Logging and telemetry. Read before everything else, so that a failed start is logged as configured. */
export const observabilityConfig = Effect.all({
  format: withDefault("CASTELLAN_LOG", oneOf("readable", "json"), "readable"),
  level: Effect.map(
    withDefault("CASTELLAN_LOG_LEVEL", oneOf("debug", "info", "warn", "error"), "info"),
    (level) => logLevels[level]
  ),
  secrets: Effect.map(Effect.all(secretVariables.map(text)), (values) => values.flatMap(Option.toArray)),
  telemetry
})

const agent = withDefault(
  "CASTELLAN_AGENT",
  {
    mustBe: "a program with its arguments",
    parse: (value) => {
      const [program, ...args] = value.trim().split(/\s+/)
      return [program!, ...args] as const
    }
  },
  Castellan.defaultAgent
)

const previewUrl = Effect.gen(function* () {
  const name = "CASTELLAN_PREVIEW_URL"
  const url = Setting.parseWebUrl(Option.getOrElse(yield* text(name), () => ""))
  if (url !== undefined && (url.username !== "" || url.password !== "")) {
    return yield* invalid(`${name} must not contain a user or a password`)
  }
  const checked = yield* optional(name, {
    mustBe: "an http or https URL of a host name, without a path or query",
    parse: () =>
      url !== undefined && `${url.pathname}${url.search}${url.hash}` === "/" && PreviewHost.isBase(url)
        ? url
        : undefined
  })
  return Option.getOrUndefined(checked)
})

/** The identity provider whose JWTs are accepted; undefined where none is set. */
const tokens = Effect.gen(function* () {
  const issuer = yield* optional("CASTELLAN_JWT_ISSUER", webUrl)
  const audience = yield* text("CASTELLAN_JWT_AUDIENCE")
  const jwksUrl = yield* optional("CASTELLAN_JWT_JWKS_URL", webUrl)
  const accountClaim = yield* text("CASTELLAN_JWT_ACCOUNT_CLAIM")
  if (Option.isNone(issuer)) {
    return Option.isSome(audience) || Option.isSome(jwksUrl)
      ? yield* invalid("CASTELLAN_JWT_ISSUER must be set if CASTELLAN_JWT_AUDIENCE or CASTELLAN_JWT_JWKS_URL is")
      : undefined
  }
  if (Option.isNone(audience)) return yield* invalid("CASTELLAN_JWT_AUDIENCE must be set if CASTELLAN_JWT_ISSUER is")
  return {
    issuer: issuer.value,
    audience: audience.value,
    ...(Option.isSome(jwksUrl) ? { jwksUrl: jwksUrl.value } : {}),
    ...(Option.isSome(accountClaim) ? { accountClaim: accountClaim.value } : {})
  }
})

/** Repositories are kept at GitHub if one of these variables is set, otherwise in the data directory. */
const repositories = Effect.map(Effect.all([text("GITHUB_TOKEN"), text("GITHUB_ORG")]), (values): "github" | "local" =>
  values.some(Option.isSome) ? "github" : "local"
)

const dataDirectory = Effect.map(
  text("CASTELLAN_DATA_DIR"),
  Option.getOrElse(() => "./.castellan")
)

/** Where a server keeps its data, for commands that use it without a server. */
export const storageConfig = Effect.all({ dataDirectory, secret, databaseUrl: text("DATABASE_URL") })

const { creates, requests, streams, wait } = Limits.defaultLimits
const day = 24 * 60 * 60

/** All settings that the server reads itself, except logging and telemetry. */
export const serverConfig = Effect.all({
  port: withDefault("PORT", integer(0, 65535), 3000),
  host,
  dataDirectory,
  adminKey,
  secret,
  provider: withDefault("CASTELLAN_PROVIDER", oneOf("local", "vercel"), "local"),
  repositories,
  tokens,
  previewUrl,
  requestsPerMinute: withDefault("CASTELLAN_REQUESTS_PER_MINUTE", integer(1, 1_000_000), requests),
  createsPerMinute: withDefault("CASTELLAN_CREATES_PER_MINUTE", integer(1, 1_000_000), creates),
  openStreams: withDefault("CASTELLAN_OPEN_STREAMS", integer(1, 1_000_000), streams),
  waitSeconds: withDefault("CASTELLAN_WAIT_SECONDS", integer(1, 240), Duration.toSeconds(wait)),
  liveSandboxes: withDefault("CASTELLAN_LIVE_SANDBOXES", integer(1, 1_000_000), Castellan.defaultLiveSandboxes),
  keepStoppedHours: withDefault(
    "CASTELLAN_KEEP_STOPPED_HOURS",
    integer(1, 24 * 365),
    Duration.toHours(Castellan.defaultKeepStopped)
  ),
  sessionIdleSeconds: withDefault(
    "CASTELLAN_SESSION_IDLE_SECONDS",
    integer(10, day),
    Duration.toSeconds(defaultTimes.idle)
  ),
  appIdleSeconds: withDefault("CASTELLAN_APP_IDLE_SECONDS", integer(60, day), Duration.toSeconds(usualAppTimes.idle)),
  shutdownSeconds: withDefault("CASTELLAN_SHUTDOWN_SECONDS", integer(1, 300), Shutdown.defaultSeconds),
  repoAccess: withDefault("CASTELLAN_REPO_ACCESS", oneOf("owner", "own"), "owner"),
  access: withDefault("CASTELLAN_ORG_ACCESS", oneOf("peers", "admins"), "peers"),
  agent
})

export type ServerConfig = Effect.Success<typeof serverConfig>
