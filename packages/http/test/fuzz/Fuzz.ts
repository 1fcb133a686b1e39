/** Sends generated requests to the API over ports in memory, and checks every response against openapi.json. */
import { document } from "../../src/api/openapi.ts"
import { Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import type { ErrorBody } from "@castellan/http/api/ErrorBody.ts"
import { routeOf } from "../../src/middleware/Routes.ts"
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js"
import { Duration, Effect, Exit, Layer, Logger, Scope } from "effect"
import * as fc from "fast-check"
import { isDeclaredError, operations } from "../Operations.ts"
import { sharedRepo } from "../tenancy/expectations.ts"
import { WebApi } from "../WebApi.ts"
import { type MadeUp, type placeholders, request } from "./requests.ts"

/** A request with a wrong response, and how to reproduce it. */
export interface Found {
  readonly seed: number
  readonly path: string
  readonly why: string
  readonly request: MadeUp
}

/** Milliseconds until a response has to begin. */
const patience = 20_000

/** Codes of 5xx responses that the provider, the repository host or the package registry causes. */
const causedOutside = new Set([
  "sandbox_not_provisioned",
  "repository_host_unavailable",
  "packages_not_installed",
  "provider_unavailable"
])

const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: false })
ajv.addSchema(document, "openapi")

const validators = new Map<string, ValidateFunction>()

const validatorOf = (pointer: string): ValidateFunction => {
  const known = validators.get(pointer)
  if (known !== undefined) return known
  const made = ajv.compile({ $ref: `openapi#${pointer}` })
  validators.set(pointer, made)
  return made
}

const escaped = (name: string) => encodeURIComponent(name.replaceAll("~", "~0").replaceAll("/", "~1"))

const errorFields = new Set(Object.keys((document as any).components.schemas.Error.properties))

interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

/** Describes the violation in the response; undefined if there is none. */
export const complaint = (method: string, url: string, { headers, status, text }: Answered): string | undefined => {
  if (headers.get("x-request-id") === null) return "it has no x-request-id"
  if (headers.get("access-control-allow-origin") !== "*") return "it has no CORS header"
  if (method === "OPTIONS") return status === 204 ? undefined : "a preflight is answered by 204"
  const type = headers.get("content-type")?.split(";")[0]
  const { route } = routeOf(url)
  const operation = operations.find(
    (one) => one.path.replace(/(?<=.)\/$/, "") === route.replace(/(?<=.)\/$/, "") && one.method === method
  )
  if (status >= 400) {
    if (type !== "application/json") return `an error has the content type ${type}`
    const body = JSON.parse(text) as ErrorBody
    const isError = validatorOf("/components/schemas/Error")
    if (!isError(JSON.parse(text))) return `the body of the error is not one: ${ajv.errorsText(isError.errors)}`
    const extra = Object.keys(body).filter((name) => !errorFields.has(name))
    if (extra.length > 0) return `the body of the error has the fields ${extra.join(", ")}`
    if (!/^[a-z0-9_]+$/.test(body.code) || body.error.trim() === "") return "the error has no code or no sentence"
    if (body.retryAfterMs !== undefined && headers.get("retry-after") === null) return "it has no retry-after"
    if (status >= 500 && !causedOutside.has(body.code)) return "the server failed"
    if (!isDeclaredError(method, url, status, body)) return `the operation does not declare ${status} ${body.code}`
    if (operation === undefined && ![400, 404, 405].includes(status))
      return "it is answered where there is no operation"
    if (status === 405 && headers.get("allow") === null) return "it has no allow"
    return undefined
  }
  if (operation === undefined) return "it succeeds where there is no operation"
  const response = operation.responses[status]
  if (response === undefined) return `the status ${status} is not in the description`
  if (response.content === undefined) return text === "" ? undefined : "it has a body"
  if (type === undefined || response.content[type] === undefined) return `it has the content type ${type}`
  if (type !== "application/json") return undefined
  const pointer = ["paths", operation.path, method.toLowerCase(), "responses", `${status}`, "content", type, "schema"]
  const isAnswer = validatorOf(pointer.map((step) => `/${escaped(step)}`).join(""))
  return isAnswer(JSON.parse(text)) ? undefined : `its body is not as described: ${ajv.errorsText(isAnswer.errors)}`
}

/** Reads a response: all of it, or the beginning of a stream of events. */
const read = async (response: Response): Promise<string> => {
  if (response.body === null || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
    return response.text()
  }
  const reader = response.body.getReader()
  await reader.read()
  await reader.cancel()
  return ""
}

/** Counts the statuses of each operation, to show what the fuzzer covers. */
export const answers = new Map<string, Map<number, number>>()

const count = (operation: string, status: number) => {
  const statuses = answers.get(operation) ?? new Map<number, number>()
  answers.set(operation, statuses.set(status, (statuses.get(status) ?? 0) + 1))
}

type Ids = Readonly<Record<(typeof placeholders)[number], string>>

const given = (text: string, ids: Ids) => text.replaceAll(/\$[a-z]+/g, (name) => ids[name as keyof Ids] ?? name)

const bytesOf = (body: string) => Uint8Array.from(body, (char) => char.charCodeAt(0))

/** Creates the things that requests name. */
const makeIds = Effect.fnUntraced(function* (account: string, key: string) {
  const api = yield* WebApi
  const ask = (method: string, path: string, body: object = {}) =>
    Effect.map(api.ask(method, path, { key, body }), ({ json }) => json)
  const { runId, sandboxId } = (yield* ask("POST", "/api/sandboxes", { command: "true" })).sandboxes[0]
  const { id: session } = (yield* ask("POST", "/api/sessions", { repoUrl: sharedRepo.url })).session
  yield* ask("POST", "/api/sandbox", { repoUrl: sharedRepo.url, sessionId: session })
  const ids: Ids = {
    $account: account,
    $sandbox: sandboxId,
    $run: runId,
    $session: session,
    $app: (yield* ask("POST", "/api/sandbox/create")).sandboxId,
    $key: (yield* ask("POST", "/api/keys", { name: "other" })).id,
    $organization: (yield* ask("POST", "/api/organizations", { name: "org" })).organization.id,
    $snapshot: (yield* ask("POST", `/api/sandboxes/${sandboxId}/snapshot`)).snapshotId
  }
  return ids
})

const prepared = Effect.gen(function* () {
  const { fetch, join } = yield* WebApi
  const { name, owner } = sharedRepo
  yield* (yield* RepoHost).ensure(new Repo({ owner: RepoOwner.make(owner), name: RepoName.make(name) }))
  const { account, key } = yield* join({ platformAdmin: true })
  const ids = makeIds(account.id, key)
  return { fetch, key, ids: yield* ids, renew: ids }
})

const layerOf = (instead?: Layer.Layer<any>) => {
  const endless = 1e12
  const options = { limits: { requests: endless, creates: endless } }
  return Layer.provideMerge(
    instead === undefined ? WebApi.layerWith(options) : WebApi.over(instead, options),
    Logger.layer([])
  )
}

/** Sends the requests of one seed to one API, and returns the first with a wrong response, shrunk. */
export const look = async (
  seed: number,
  runs: number,
  { instead, path }: { readonly path?: string | undefined; readonly instead?: Layer.Layer<any> | undefined } = {}
): Promise<Found | null> => {
  const scope = Scope.makeUnsafe()
  try {
    const services = await Effect.runPromise(
      Effect.provideService(Layer.build(Layer.fresh(layerOf(instead))), Scope.Scope, scope)
    )
    const { fetch, ids, key, renew } = await Effect.runPromise(Effect.provide(prepared, services))
    let current = ids
    const answerTo = Effect.fnUntraced(function* ({ body, headers, method, operation, url }: MadeUp) {
      // A header takes Latin-1 alone; a URL is normalized as by every client.
      const asked = new Request(new URL(given(url, current), "http://castellan.test"), {
        method,
        headers: { ...headers, "x-api-key": key },
        ...(body === null ? {} : { body: bytesOf(given(body, current)) })
      })
      const response = yield* fetch(asked)
      const text = yield* Effect.promise(() => read(response))
      count(operation, response.status)
      // Creates again what this request deleted, for the next requests.
      if (response.status < 300 && (method === "DELETE" || operation === "apps.kill")) {
        current = yield* Effect.provide(renew, services)
      }
      const at = new URL(asked.url)
      return complaint(method, at.pathname + at.search, { status: response.status, headers: response.headers, text })
    })
    const holds = fc.asyncProperty(request, async (madeUp) => {
      const why = await Effect.runPromise(
        answerTo(madeUp).pipe(
          Effect.timeoutOrElse({
            duration: Duration.millis(patience),
            orElse: () => Effect.succeed("there is no answer")
          })
        )
      )
      if (why !== undefined) throw new Error(why)
    })
    const result = await fc.check(holds, { seed, numRuns: runs, ...(path === undefined ? {} : { path }) })
    if (!result.failed) return null
    const why = result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance)
    return { seed, path: result.counterexamplePath ?? "", why, request: result.counterexample![0] }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
