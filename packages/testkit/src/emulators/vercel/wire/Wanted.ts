/** What bodies of requests say, or why it can't be. */
import { Effect } from "effect"
import { badRequest, Refused } from "./Answers.ts"
import type { Retention, Settings } from "../state/Kept.ts"
import { allowAll, answered } from "../state/NetworkPolicy.ts"
import type { Plan } from "../state/Site.ts"

/** The object that a body is. */
export type Body = Record<string, unknown>

/** The object that a body is; the empty one where there is none. */
export const bodyOf = (bytes: Buffer): Effect.Effect<Body, Refused> => {
  if (bytes.length === 0) return Effect.succeed({})
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"))
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return Effect.succeed(value as Body)
  } catch {
    // Said below.
  }
  return Effect.fail(badRequest("Invalid JSON."))
}

const invalid = (key: string, wants: string) => badRequest(`Invalid request: \`${key}\` should be ${wants}.`)

const reader =
  <A>(wants: string, is: (value: unknown) => value is A) =>
  <K extends string>(body: Body, key: K): Effect.Effect<A | undefined, Refused> => {
    const value = body[key]
    if (value === undefined) return Effect.succeed(undefined)
    return is(value) ? Effect.succeed(value) : Effect.fail(invalid(key, wants))
  }

const isString = (value: unknown): value is string => typeof value === "string"
const isObject = (value: unknown): value is Body => typeof value === "object" && value !== null && !Array.isArray(value)
const isTexts = (value: unknown): value is Record<string, string> =>
  isObject(value) && Object.values(value).every(isString)

/** A text of a body, if it has one there. */
export const text = reader("string", isString)
/** A count or a time of a body. */
export const integer = reader("a whole number of at least 0", (value): value is number => {
  return typeof value === "number" && Number.isInteger(value) && value >= 0
})
/** Yes or no. */
export const flag = reader("boolean", (value) => typeof value === "boolean")
/** Several texts. */
export const texts = reader("an array of strings", (value): value is ReadonlyArray<string> => {
  return Array.isArray(value) && value.every(isString)
})
/** Texts by name. */
export const record = reader("an object of strings", isTexts)
const ports = reader("an array of ports", (value): value is ReadonlyArray<number> => {
  return Array.isArray(value) && value.every((port) => Number.isInteger(port) && port >= 1024 && port <= 65_535)
})
const resources = reader("an object", (value): value is { readonly vcpus?: number; readonly memory?: number } => {
  return isObject(value) && (value["vcpus"] === undefined || Number.isInteger(value["vcpus"]))
})
const retention = reader("an object with a count between 1 and 10", (value): value is Retention => {
  const count = isObject(value) ? value["count"] : undefined
  return typeof count === "number" && Number.isInteger(count) && count >= 1 && count <= 10
})
/** An object of a body. */
export const object = reader("an object", isObject)

/** What a sandbox is when nothing is said of it. */
export const usual = (): Settings => ({
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

const minutes = (ms: number) => (ms % 3_600_000 === 0 ? `${ms / 3_600_000}h` : `${Math.floor(ms / 60_000)}m`)

const megabytesPerVcpu = 2048

/** The shortest that a snapshot may be kept, in ms; 0 stands for ever. */
const shortest = 86_400_000

/** How long snapshots are to be kept: `key` of the body, 0 or at least a day. */
export const expirationRefused = (key: string, value: number | undefined): Refused | undefined =>
  value === undefined || value === 0 || value >= shortest ? undefined : invalid(key, `0 or at least ${shortest}`)

const checked = (settings: Settings, plan: Plan): Refused | undefined => {
  const { failoverRegions, ports, region, tags, timeout, vcpus } = settings
  if (timeout < 1000) return invalid("timeout", "at least 1000")
  if (timeout > plan.maxTimeout) return badRequest(`timeout restricted to <= ${minutes(plan.maxTimeout)}`)
  if (ports.length > plan.maxPorts) return invalid("ports", `at most ${plan.maxPorts} ports`)
  if (new Set(ports).size < ports.length) return invalid("ports", "without duplicates")
  if (vcpus < 1 || vcpus > plan.maxVcpus || (vcpus > 1 && vcpus % 2 === 1)) {
    return invalid("resources.vcpus", `1 or an even number up to ${plan.maxVcpus}`)
  }
  const forgotten =
    expirationRefused("snapshotExpiration", settings.snapshotExpiration) ??
    expirationRefused("keepLastSnapshots.expiration", settings.keepLastSnapshots?.expiration)
  if (forgotten !== undefined) return forgotten
  if (Object.keys(tags).length > 5) return invalid("tags", "at most 5 tags")
  if (failoverRegions.includes(region)) return badRequest("failoverRegions must not include the region.")
  return undefined
}

/** The settings after what a body says of them; null takes back what can be. */
export const settled = Effect.fnUntraced(function* (body: Body, before: Settings, plan: Plan) {
  const said = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
  const { vcpus } = (yield* resources(said, "resources")) ?? {}
  const wanted = said["networkPolicy"]
  const networkPolicy = wanted === undefined ? before.networkPolicy : answered(wanted)
  if (networkPolicy === undefined) return yield* invalid("networkPolicy", "a network policy")
  const runtime = yield* text(said, "runtime")
  const image = yield* text(said, "image")
  const gone = (key: string) => body[key] === null
  const cpus = vcpus ?? before.vcpus
  const after: Settings = {
    persistent: (yield* flag(said, "persistent")) ?? before.persistent,
    timeout: (yield* integer(said, "timeout")) ?? before.timeout,
    vcpus: cpus,
    memory: cpus * megabytesPerVcpu,
    region: (yield* text(said, "region")) ?? before.region,
    failoverRegions: (yield* texts(said, "failoverRegions")) ?? before.failoverRegions,
    runtime: runtime ?? before.runtime,
    image: runtime === undefined ? (image ?? before.image) : undefined,
    networkId: gone("networkId") ? undefined : ((yield* text(said, "networkId")) ?? before.networkId),
    networkPolicy,
    tags: (yield* record(said, "tags")) ?? before.tags,
    env: (yield* record(said, "env")) ?? before.env,
    ports: (yield* ports(said, "ports")) ?? before.ports,
    snapshotExpiration: (yield* integer(said, "snapshotExpiration")) ?? before.snapshotExpiration,
    keepLastSnapshots: gone("keepLastSnapshots")
      ? undefined
      : ((yield* retention(said, "keepLastSnapshots")) ?? before.keepLastSnapshots)
  }
  const refused = checked(after, plan)
  return refused === undefined ? after : yield* refused
})
