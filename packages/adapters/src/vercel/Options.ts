/** The options of the Vercel adapter, and how they are read from the environment. */
import { Config, Duration, Effect, Option, Redacted, Schema } from "effect"

/** Vercel Sandbox can't be used as it is configured; the message names the setting. */
export class VercelUnavailable extends Schema.TaggedError<VercelUnavailable>()("VercelUnavailable", {
  message: Schema.String
}) {}

/** An access token, and the project whose sandboxes it manages. */
export interface Credentials {
  readonly token: Redacted.Redacted<string>
  readonly teamId: string
  readonly projectId: string
}

/** The most virtual CPUs and the longest run, in minutes, that each Vercel plan allows a sandbox. */
export const plans = {
  hobby: { vcpus: 4, minutes: 45 },
  pro: { vcpus: 8, minutes: 24 * 60 },
  enterprise: { vcpus: 32, minutes: 24 * 60 }
} as const

export type Plan = keyof typeof plans

/** Checks only the form of the name, because Vercel adds regions. */
const isRegion = (region: string) => /^[a-z]{3}[0-9]$/.test(region)

export interface VercelOptions {
  /** Evaluated for each request, so that a renewed token takes effect at once. */
  readonly credentials: Effect.Effect<Credentials>
  /** The team's plan; `hobby` by default. */
  readonly plan?: Plan
  /** 1, or an even number that the plan allows; 2 by default. */
  readonly vcpus?: number
  /** A region such as `iad1`; Vercel's choice by default. */
  readonly region?: string
  /** The image that sandboxes boot from; Vercel's choice by default. */
  readonly image?: string
  /** Whether sandboxes reach the internet; `allow` by default. */
  readonly network?: "allow" | "deny"
  /** The host name of the package registry. Required if `network` is `deny`. */
  readonly registryHost?: string
  /** The longest run of a sandbox in minutes, at least 5; the plan's maximum by default. */
  readonly maxMinutes?: number
  /** Days that a stopped sandbox's files and snapshots are kept after their last use; 0 keeps them for ever; 30 by default. */
  readonly keptDays?: number
  /** Bytes that are kept of each output stream of a command; 64 MiB by default. */
  readonly outputKept?: number
  /** How long a guest script may print nothing before it counts as dead; 30 seconds by default, at least 15. */
  readonly silenceTimeout?: Duration.Duration
  /** Replaces the global `fetch` in the SDK. */
  readonly fetch?: typeof globalThis.fetch
}

const refuse = (message: string) => Effect.fail(new VercelUnavailable({ message }))

const isVcpus = (vcpus: number, plan: Plan) =>
  Number.isInteger(vcpus) && (vcpus === 1 || vcpus % 2 === 0) && vcpus >= 1 && vcpus <= plans[plan].vcpus

/** The name of each option in error messages: its field here, or its environment variable. */
const fieldNames = {
  vcpus: "vcpus",
  region: "region",
  maxMinutes: "maxMinutes",
  keptDays: "keptDays",
  network: "network",
  registryHost: "registryHost"
}

/** Fails with the name of the first option that Vercel would not accept. */
export const checkOptions = Effect.fnUntraced(function* (options: VercelOptions, names = fieldNames) {
  const { keptDays = 30, maxMinutes, network, plan = "hobby", region, registryHost, vcpus = 2 } = options
  const most = plans[plan]
  if (!isVcpus(vcpus, plan)) {
    return yield* refuse(`${names.vcpus} is ${vcpus}; on the ${plan} plan it must be 1 or even, at most ${most.vcpus}`)
  }
  if (region !== undefined && !isRegion(region)) {
    return yield* refuse(`${names.region} is "${region}"; it must be a Vercel region such as iad1 or fra1`)
  }
  if (maxMinutes !== undefined && !(Number.isInteger(maxMinutes) && maxMinutes >= 5 && maxMinutes <= most.minutes)) {
    return yield* refuse(
      `${names.maxMinutes} is ${maxMinutes}; on the ${plan} plan it must be a whole number from 5 to ${most.minutes}`
    )
  }
  if (!Number.isInteger(keptDays) || keptDays < 0 || keptDays > 3650) {
    return yield* refuse(
      `${names.keptDays} is ${keptDays}; it must be a whole number of days from 0 (for ever) to 3650`
    )
  }
  if (network === "deny" && registryHost === undefined) {
    return yield* refuse(
      `${names.registryHost} must be set if ${names.network} is "deny", because web apps need their packages`
    )
  }
  if (registryHost !== undefined && !/^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(registryHost)) {
    return yield* refuse(`${names.registryHost} has the host "${registryHost}"; it must be a host name`)
  }
})

const setting = (name: string) =>
  Config.option(Config.String(name)).pipe(
    Effect.mapError(() => new VercelUnavailable({ message: `${name} can't be read` })),
    Effect.map(Option.filter((value) => value.trim() !== "")),
    Effect.map(Option.map((value) => value.trim()))
  )

const required = (name: string, what: string, pattern: RegExp, isSecret = false) =>
  Effect.flatMap(setting(name), (given) => {
    if (Option.isNone(given)) return refuse(`${name} is not set; it must be ${what}`)
    if (pattern.test(given.value)) return Effect.succeed(given.value)
    return refuse(isSecret ? `${name} must be ${what}` : `${name} is "${given.value}"; it must be ${what}`)
  })

const number = (name: string) =>
  Effect.flatMap(setting(name), (given) => {
    if (Option.isNone(given)) return Effect.undefined
    return /^\d{1,9}$/.test(given.value)
      ? Effect.succeed(Number(given.value))
      : refuse(`${name} is "${given.value}"; it must be a whole number`)
  })

const oneOf = <A extends string>(name: string, allowed: ReadonlyArray<A>) =>
  Effect.flatMap(setting(name), (given) => {
    if (Option.isNone(given)) return Effect.undefined
    const known = allowed.find((one) => one === given.value)
    return known === undefined
      ? refuse(`${name} is "${given.value}"; it must be ${allowed.map((one) => `"${one}"`).join(" or ")}`)
      : Effect.succeed(known)
  })

const hostOf = (name: string) =>
  Effect.flatMap(setting(name), (given) => {
    if (Option.isNone(given)) return Effect.undefined
    const url = URL.canParse(given.value) ? new URL(given.value) : undefined
    return url !== undefined && ["http:", "https:"].includes(url.protocol)
      ? Effect.succeed(url.hostname)
      : refuse(`${name} must be an http or https URL`)
  })

const withoutUndefined = <A extends object>(given: A) =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [K in keyof A]?: Exclude<A[K], undefined>
  }

/** Reads VERCEL_TOKEN, VERCEL_TEAM_ID, VERCEL_PROJECT_ID, CASTELLAN_VERCEL_… and CASTELLAN_NPM_REGISTRY. */
export const fromConfig: Effect.Effect<VercelOptions, VercelUnavailable> = Effect.gen(function* () {
  const token = yield* required("VERCEL_TOKEN", "an access token of a Vercel team", /^[\x21-\x7e]+$/, true)
  const teamId = yield* required("VERCEL_TEAM_ID", "the id of a Vercel team, such as team_…", /^[A-Za-z0-9_-]+$/)
  const projectId = yield* required(
    "VERCEL_PROJECT_ID",
    "the id of a Vercel project, such as prj_…",
    /^[A-Za-z0-9_-]+$/
  )
  const image = yield* setting("CASTELLAN_VERCEL_IMAGE")
  const options: VercelOptions = {
    credentials: Effect.succeed({ token: Redacted.make(token), teamId, projectId }),
    ...withoutUndefined({
      plan: yield* oneOf("CASTELLAN_VERCEL_PLAN", Object.keys(plans) as ReadonlyArray<Plan>),
      vcpus: yield* number("CASTELLAN_VERCEL_VCPUS"),
      region: Option.getOrUndefined(yield* setting("CASTELLAN_VERCEL_REGION")),
      image: Option.getOrUndefined(image),
      network: yield* oneOf("CASTELLAN_VERCEL_NETWORK", ["allow", "deny"]),
      maxMinutes: yield* number("CASTELLAN_VERCEL_MAX_MINUTES"),
      keptDays: yield* number("CASTELLAN_VERCEL_KEPT_DAYS"),
      registryHost: yield* hostOf("CASTELLAN_NPM_REGISTRY")
    })
  }
  yield* checkOptions(options, {
    vcpus: "CASTELLAN_VERCEL_VCPUS",
    region: "CASTELLAN_VERCEL_REGION",
    maxMinutes: "CASTELLAN_VERCEL_MAX_MINUTES",
    keptDays: "CASTELLAN_VERCEL_KEPT_DAYS",
    network: "CASTELLAN_VERCEL_NETWORK",
    registryHost: "CASTELLAN_NPM_REGISTRY"
  })
  return options
})

/** Milliseconds of the longest run of a sandbox. */
export const maxLifetime = ({ maxMinutes, plan = "hobby" }: VercelOptions): number =>
  Duration.toMillis(Duration.minutes(maxMinutes ?? plans[plan].minutes))
