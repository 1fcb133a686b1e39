/** The bodies of requests, and the rules that settings must meet. */
import { Effect, Schema, Struct } from "effect"
import type { Plan } from "../state/EmulatorState.ts"
import type { Settings } from "../state/models.ts"
import { allowAll, NetworkPolicyRequest, toNetworkPolicy } from "../state/NetworkPolicy.ts"
import { type ApiError, badRequest } from "./responses.ts"

/** Decodes a body of JSON; an empty body counts as an empty object. */
export const decodeBody = <A, I>(schema: Schema.Codec<A, I>, body: Buffer): Effect.Effect<A, ApiError> =>
  Schema.decodeUnknownEffect(Schema.fromJsonString(schema))(body.length === 0 ? "{}" : body.toString("utf8")).pipe(
    Effect.mapError(({ message }) => badRequest(`Invalid request: ${message.replaceAll(/\s+/g, " ")}`))
  )

/** A body whose fields may all be missing. */
const allOptional = <F extends Schema.Struct.Fields>(fields: F) =>
  Schema.Struct(fields).mapFields(Struct.map(Schema.optionalKey))

/** A count, or a time in ms. */
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const Texts = Schema.Record(Schema.String, Schema.String)

export const StartCommand = allOptional({
  command: Schema.String,
  args: Schema.Array(Schema.String),
  cwd: Schema.String,
  env: Texts,
  timeout: Count,
  wait: Schema.Boolean,
  logs: Schema.Boolean
})
export const KillCommand = allOptional({ signal: Count })
export const FilePath = allOptional({ cwd: Schema.String, path: Schema.String, recursive: Schema.Boolean })
export const TakeSnapshot = allOptional({ expiration: Count })
export const ExtendTimeout = allOptional({ duration: Count })

const Source = allOptional({
  type: Schema.String,
  snapshotId: Schema.String,
  url: Schema.String,
  username: Schema.String,
  password: Schema.String,
  depth: Count,
  revision: Schema.String
})
export type Source = typeof Source.Type

const Ports = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1024, maximum: 65_535 })))
const Retention = Schema.Struct({
  count: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10 })),
  expiration: Schema.optionalKey(Count),
  deleteEvicted: Schema.optionalKey(Schema.Boolean)
})

/** The body of a request that creates, forks or updates a sandbox. Null counts as missing, or clears an optional setting. */
export const SandboxRequest = allOptional({
  name: Schema.String,
  projectId: Schema.String,
  currentSnapshotId: Schema.String,
  source: Source,
  mounts: Schema.Unknown,
  persistent: Schema.NullOr(Schema.Boolean),
  timeout: Schema.NullOr(Count),
  resources: Schema.NullOr(Schema.Struct({ vcpus: Schema.optionalKey(Schema.Int) })),
  region: Schema.NullOr(Schema.String),
  failoverRegions: Schema.NullOr(Schema.Array(Schema.String)),
  runtime: Schema.NullOr(Schema.String),
  image: Schema.NullOr(Schema.String),
  networkId: Schema.NullOr(Schema.String),
  networkPolicy: Schema.NullOr(NetworkPolicyRequest),
  tags: Schema.NullOr(Texts),
  env: Schema.NullOr(Texts),
  ports: Schema.NullOr(Ports),
  snapshotExpiration: Schema.NullOr(Count),
  keepLastSnapshots: Schema.NullOr(Retention)
})
export type SandboxRequest = typeof SandboxRequest.Type

export const defaultSettings = (): Settings => ({
  persistent: true,
  timeout: 300_000,
  vcpus: 2,
  memory: 4096,
  region: "iad1",
  failoverRegions: [],
  runtime: "node24",
  image: "vercel/sandbox/universal:latest",
  networkPolicy: allowAll,
  tags: {},
  env: {},
  ports: []
})

const invalid = (key: string, rule: string) => badRequest(`Invalid request: \`${key}\` should be ${rule}.`)

const formatDuration = (ms: number) => (ms % 3_600_000 === 0 ? `${ms / 3_600_000}h` : `${Math.floor(ms / 60_000)}m`)

const megabytesPerVcpu = 2048

/** The shortest expiration of a snapshot in ms; 0 means that it never expires. */
const minExpiration = 86_400_000

/** The error for an expiration of snapshots that is neither 0 nor at least a day. */
export const expirationError = (key: string, value: number | undefined): ApiError | undefined =>
  value === undefined || value === 0 || value >= minExpiration
    ? undefined
    : invalid(key, `0 or at least ${minExpiration}`)

const settingsError = (settings: Settings, plan: Plan): ApiError | undefined => {
  const { failoverRegions, ports, region, tags, timeout, vcpus } = settings
  if (timeout < 1000) return invalid("timeout", "at least 1000")
  if (timeout > plan.maxTimeout) return badRequest(`timeout restricted to <= ${formatDuration(plan.maxTimeout)}`)
  if (ports.length > plan.maxPorts) return invalid("ports", `at most ${plan.maxPorts} ports`)
  if (new Set(ports).size < ports.length) return invalid("ports", "without duplicates")
  if (vcpus < 1 || vcpus > plan.maxVcpus || (vcpus > 1 && vcpus % 2 === 1)) {
    return invalid("resources.vcpus", `1 or an even number up to ${plan.maxVcpus}`)
  }
  const expiration =
    expirationError("snapshotExpiration", settings.snapshotExpiration) ??
    expirationError("keepLastSnapshots.expiration", settings.keepLastSnapshots?.expiration)
  if (expiration !== undefined) return expiration
  if (Object.keys(tags).length > 5) return invalid("tags", "at most 5 tags")
  if (failoverRegions.includes(region)) return badRequest("failoverRegions must not include the region.")
  return undefined
}

/** The settings of a sandbox after a request. */
export const applySettings = (
  request: SandboxRequest,
  before: Settings,
  plan: Plan
): Effect.Effect<Settings, ApiError> => {
  const vcpus = request.resources?.vcpus ?? before.vcpus
  const { keepLastSnapshots, networkId, networkPolicy } = request
  const after: Settings = {
    persistent: request.persistent ?? before.persistent,
    timeout: request.timeout ?? before.timeout,
    vcpus,
    memory: vcpus * megabytesPerVcpu,
    region: request.region ?? before.region,
    failoverRegions: request.failoverRegions ?? before.failoverRegions,
    runtime: request.runtime ?? before.runtime,
    image: typeof request.runtime === "string" ? undefined : (request.image ?? before.image),
    networkId: networkId === null ? undefined : (networkId ?? before.networkId),
    networkPolicy: networkPolicy ? toNetworkPolicy(networkPolicy) : before.networkPolicy,
    tags: request.tags ?? before.tags,
    env: request.env ?? before.env,
    ports: request.ports ?? before.ports,
    snapshotExpiration: request.snapshotExpiration ?? before.snapshotExpiration,
    keepLastSnapshots: keepLastSnapshots === null ? undefined : (keepLastSnapshots ?? before.keepLastSnapshots)
  }
  const error = settingsError(after, plan)
  return error === undefined ? Effect.succeed(after) : Effect.fail(error)
}
