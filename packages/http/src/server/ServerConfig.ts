/** What the server is told by its environment; each wrong value stops the start with a sentence that names it. */
import { usualTimes as usualAppTimes } from "@castellan/domain/app/AppTimes.ts"
import { usualTimes } from "@castellan/domain/session/decide.ts"
import { Config, Duration, Effect, Option, Redacted, Schema } from "effect"
import * as Castellan from "./Castellan.ts"
import * as Limits from "../middleware/Limits.ts"
import * as PreviewHost from "../preview/PreviewHost.ts"
import * as Shutdown from "./Shutdown.ts"

/** A setting can't be used; the message says which, what it was, and what it may be. */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>()("InvalidConfig", {
  message: Schema.String
}) {}

const refuse = (message: string) => Effect.fail(new InvalidConfig({ message }))

/** The variable's text; an empty one counts as not set. */
const text = (name: string) =>
  Config.option(Config.String(name)).pipe(
    Config.map(Option.filter((value) => value.trim() !== "")),
    Effect.mapError(() => new InvalidConfig({ message: `${name} can't be read` }))
  )

const oneOf = <A extends string>(name: string, allowed: ReadonlyArray<A>, otherwise: A) =>
  Effect.flatMap(text(name), (value) => {
    if (Option.isNone(value)) return Effect.succeed(otherwise)
    const known = allowed.find((candidate) => candidate === value.value)
    return known === undefined
      ? refuse(`${name} is "${value.value}"; it must be ${allowed.map((one) => `"${one}"`).join(" or ")}`)
      : Effect.succeed(known)
  })

const wholeNumber = (name: string, between: readonly [number, number], otherwise: number) =>
  Effect.flatMap(text(name), (value) => {
    if (Option.isNone(value)) return Effect.succeed(otherwise)
    const number = /^\d+$/.test(value.value.trim()) ? Number(value.value) : NaN
    return number >= between[0] && number <= between[1]
      ? Effect.succeed(number)
      : refuse(`${name} is "${value.value}"; it must be a whole number from ${between[0]} to ${between[1]}`)
  })

const host = Effect.flatMap(text("HOST"), (value) => {
  const given = Option.getOrElse(value, () => "127.0.0.1")
  return /^[A-Za-z0-9.:_-]+$/.test(given)
    ? Effect.succeed(given)
    : refuse(`HOST is "${given}"; it must be a host name or an IP address`)
})

/** Characters of an admin key that can't be guessed. */
const adminKeyLength = 24

const adminKey = Effect.flatMap(text("CASTELLAN_ADMIN_KEY"), (value) => {
  if (Option.isSome(value) && !new RegExp(`^[\\x21-\\x7e]{${adminKeyLength},}$`).test(value.value)) {
    return refuse(`CASTELLAN_ADMIN_KEY must be at least ${adminKeyLength} printable characters without spaces`)
  }
  return Effect.succeed(Option.map(value, (key) => Redacted.make(key)))
})

const secret = Effect.flatMap(text("CASTELLAN_SECRET"), (value) => {
  if (Option.isSome(value) && !/^[0-9a-fA-F]{64}$/.test(value.value)) {
    return refuse("CASTELLAN_SECRET must be 64 hexadecimal digits, as `openssl rand -hex 32` prints them")
  }
  return Effect.succeed(Option.map(value, (hex) => Redacted.make(Uint8Array.from(Buffer.from(hex, "hex")))))
})

const pairs = (name: string) =>
  Effect.flatMap(text(name), (value) => {
    const given = Option.getOrElse(value, () => "")
      .split(",")
      .filter((pair) => pair.trim() !== "")
      .map((pair) => /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair))
    try {
      return Effect.succeed(Object.fromEntries(given.map((match) => [match![1]!, decodeURIComponent(match![2]!)])))
    } catch {
      return refuse(`${name} can't be read; it must be name=value, with commas between`)
    }
  })

/** The collector of traces and metrics; none where no endpoint is set. */
const telemetry = Effect.gen(function* () {
  const endpoint = yield* webUrl("OTEL_EXPORTER_OTLP_ENDPOINT")
  if (Option.isNone(endpoint)) return undefined
  const headers = yield* pairs("OTEL_EXPORTER_OTLP_HEADERS")
  const attributes = yield* pairs("OTEL_RESOURCE_ATTRIBUTES")
  const named = Option.getOrUndefined(yield* text("OTEL_SERVICE_NAME"))
  const serviceName = named ?? attributes["service.name"] ?? "castellan"
  return { endpoint: endpoint.value.trim(), headers: Redacted.make(headers), serviceName, attributes }
})

const logLevels = { debug: "Debug", info: "Info", warn: "Warn", error: "Error" } as const

/** How the server says what it does; read by itself, since what stops a start is said, too. */
export const logs = Effect.all({
  format: oneOf("CASTELLAN_LOG", ["readable", "json"], "readable"),
  level: Effect.map(
    oneOf<keyof typeof logLevels>("CASTELLAN_LOG_LEVEL", ["debug", "info", "warn", "error"], "info"),
    (level) => logLevels[level]
  ),
  secrets: Effect.map(
    Effect.all(["CASTELLAN_SECRET", "CASTELLAN_ADMIN_KEY", "GITHUB_TOKEN", "VERCEL_TOKEN", "DATABASE_URL"].map(text)),
    (given) => given.flatMap(Option.toArray)
  ),
  telemetry
})

const agent = Effect.map(text("CASTELLAN_AGENT"), (value) => {
  const [program, ...args] = Option.getOrElse(value, () => Castellan.defaultAgent.join(" "))
    .trim()
    .split(/\s+/)
  return [program!, ...args] as const
})

const isWebUrl = (url: string) => {
  try {
    return ["http:", "https:"].includes(new URL(url).protocol)
  } catch {
    return false
  }
}

const webUrl = (name: string) =>
  Effect.flatMap(text(name), (value) =>
    Option.isSome(value) && !isWebUrl(value.value)
      ? refuse(`${name} is "${value.value}"; it must be an http or https URL`)
      : Effect.succeed(value)
  )

const previewUrl = Effect.flatMap(text("CASTELLAN_PREVIEW_URL"), (value) => {
  if (Option.isNone(value)) return Effect.succeed(undefined)
  const url = isWebUrl(value.value) ? new URL(value.value.trim()) : undefined
  if (url !== undefined && (url.username !== "" || url.password !== "")) {
    return refuse("CASTELLAN_PREVIEW_URL must not have a user or a password in it")
  }
  return url !== undefined && `${url.pathname}${url.search}${url.hash}` === "/" && PreviewHost.isBase(url)
    ? Effect.succeed(url)
    : refuse(
        `CASTELLAN_PREVIEW_URL is "${value.value}"; it must be an http or https URL of a host name and nothing more`
      )
})

const tokens = Effect.gen(function* () {
  const issuer = yield* webUrl("CASTELLAN_JWT_ISSUER")
  const audience = yield* text("CASTELLAN_JWT_AUDIENCE")
  const jwksUrl = yield* webUrl("CASTELLAN_JWT_JWKS_URL")
  const accountClaim = yield* text("CASTELLAN_JWT_ACCOUNT_CLAIM")
  if (Option.isNone(issuer)) {
    return Option.isSome(audience) || Option.isSome(jwksUrl)
      ? yield* refuse("CASTELLAN_JWT_ISSUER must be set where CASTELLAN_JWT_AUDIENCE or CASTELLAN_JWT_JWKS_URL is")
      : undefined
  }
  if (Option.isNone(audience)) {
    return yield* refuse("CASTELLAN_JWT_AUDIENCE must be set where CASTELLAN_JWT_ISSUER is")
  }
  return {
    issuer: issuer.value,
    audience: audience.value,
    ...(Option.isSome(jwksUrl) ? { jwksUrl: jwksUrl.value } : {}),
    ...(Option.isSome(accountClaim) ? { accountClaim: accountClaim.value } : {})
  }
})

/** Where repositories are kept: at GitHub once one of its settings is there, else in the data directory. */
const repositories = Effect.map(Effect.all([text("GITHUB_TOKEN"), text("GITHUB_ORG")]), (given): "github" | "local" =>
  given.some(Option.isSome) ? "github" : "local"
)

/** Seconds after which a session that nobody uses is put to sleep. */
const defaultIdleSeconds = Duration.toSeconds(usualTimes.idle)

/** Seconds after which a web app that nobody uses is stopped. */
const defaultAppIdleSeconds = Duration.toSeconds(usualAppTimes.idle)

const dataDirectory = Effect.map(
  text("CASTELLAN_DATA_DIR"),
  Option.getOrElse(() => "./.castellan")
)

/** Where the server's data is, for commands that work on it without a server. */
export const storage = Effect.all({ dataDirectory, secret, databaseUrl: text("DATABASE_URL") })

/** Every setting of the server itself; its adapters read their own. */
export const settings = Effect.all({
  port: wholeNumber("PORT", [0, 65535], 3000),
  host,
  dataDirectory,
  adminKey,
  secret,
  provider: oneOf("CASTELLAN_PROVIDER", ["local", "vercel"], "local"),
  repositories,
  tokens,
  previewUrl,
  requestsPerMinute: wholeNumber("CASTELLAN_REQUESTS_PER_MINUTE", [1, 1_000_000], Limits.defaultLimits.requests),
  createsPerMinute: wholeNumber("CASTELLAN_CREATES_PER_MINUTE", [1, 1_000_000], Limits.defaultLimits.creates),
  openStreams: wholeNumber("CASTELLAN_OPEN_STREAMS", [1, 1_000_000], Limits.defaultLimits.streams),
  waitSeconds: wholeNumber("CASTELLAN_WAIT_SECONDS", [1, 240], Duration.toSeconds(Limits.defaultLimits.wait)),
  liveSandboxes: wholeNumber("CASTELLAN_LIVE_SANDBOXES", [1, 1_000_000], Castellan.defaultLiveAtMost),
  keepStoppedHours: wholeNumber("CASTELLAN_KEEP_STOPPED_HOURS", [1, 24 * 365], Castellan.defaultKeepStoppedHours),
  sessionIdleSeconds: wholeNumber("CASTELLAN_SESSION_IDLE_SECONDS", [10, 24 * 60 * 60], defaultIdleSeconds),
  appIdleSeconds: wholeNumber("CASTELLAN_APP_IDLE_SECONDS", [60, 24 * 60 * 60], defaultAppIdleSeconds),
  shutdownSeconds: wholeNumber("CASTELLAN_SHUTDOWN_SECONDS", [1, 300], Shutdown.defaultSeconds),
  repoAccess: oneOf("CASTELLAN_REPO_ACCESS", ["owner", "own"], "owner"),
  access: oneOf("CASTELLAN_ORG_ACCESS", ["peers", "admins"], "peers"),
  agent
})
