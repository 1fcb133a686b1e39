/** The HTTP server: authenticates and records requests, applies faults, and passes requests to REST or git. */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse
} from "node:http"
import { buffer } from "node:stream/consumers"
import type { PlannedFaults } from "../Faults.ts"
import { type Response, json, plain, send } from "./responses.ts"
import * as Faults from "./Faults.ts"
import { type Identity, may } from "./Repositories.ts"
import * as Rest from "./Rest.ts"
import * as SmartHttp from "./SmartHttp.ts"

/** A received request with all its headers, the credential included. */
export interface RecordedRequest {
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** Null until the response ends, and if the connection closes before. */
  status: number | null
  /** Whether the client closed the connection before the response. */
  aborted: boolean
}

export interface Parts {
  readonly state: Rest.EmulatorState
  readonly identities: ReadonlyMap<string, Identity>
  readonly faults: PlannedFaults<Faults.Fault>
  readonly requests: Array<RecordedRequest>
}

/** The rate limit of a token, in requests an hour. */
const hourly = 5000

/** The token of a request, in any of the schemes that GitHub accepts. */
const tokenOf = (authorization: string | undefined): string | undefined => {
  const [, scheme, value = ""] = /^(\S+) +(.*)$/.exec(authorization ?? "") ?? []
  switch (scheme?.toLowerCase()) {
    case "bearer":
    case "token":
      return value
    case "basic": {
      const pair = Buffer.from(value, "base64").toString("utf8")
      return pair.slice(pair.indexOf(":") + 1)
    }
    default:
      return undefined
  }
}

const pause = (ms: number, response: ServerResponse) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms)
    response.once("close", () => {
      clearTimeout(timer)
      resolve()
    })
  })

type RateLimit = ReturnType<typeof makeRateLimit>

/** Counts requests by token, and returns the headers of the rate limit. Nothing is ever refused. */
const makeRateLimit = () => {
  const used = new Map<string, number>()
  return (token: string, counts: boolean) => {
    const count = (used.get(token) ?? 0) + (counts ? 1 : 0)
    used.set(token, count)
    return {
      "x-ratelimit-limit": String(hourly),
      "x-ratelimit-remaining": String(Math.max(0, hourly - count)),
      "x-ratelimit-used": String(count),
      "x-ratelimit-reset": String(Math.ceil(Date.now() / 3_600_000) * 3600),
      "x-ratelimit-resource": "core"
    }
  }
}

/** Handles a request of git. */
const handleGit = async (
  { identities, state }: Parts,
  request: IncomingMessage,
  response: ServerResponse,
  asked: NonNullable<ReturnType<typeof SmartHttp.parse>>,
  query: string,
  fault: Faults.Fault | undefined
) => {
  const respond = (answer: Response) => {
    request.resume()
    send(request, response, answer, {}, false)
  }
  const token = tokenOf(request.headers.authorization)
  const identity = token === undefined ? undefined : identities.get(token)
  const repository = state.repositories.find(asked.owner, asked.name)
  const mayRead = repository !== undefined && may(identity, repository, "read")
  if (identity === undefined && (token !== undefined || !mayRead || asked.pushes)) {
    return respond(plain(401, "Repository not found.\n", { "www-authenticate": 'Basic realm="GitHub"' }))
  }
  if (!mayRead) {
    const renamed = state.repositories.movedTo(asked.owner, asked.name)
    if (renamed === undefined || !may(identity, renamed, "read")) return respond(plain(404, "Repository not found.\n"))
    const location = `/${renamed.owner.login}/${renamed.name}.git/${asked.what}?${query}`
    return respond(plain(301, "", { location }))
  }
  if (asked.pushes && !may(identity, repository, "write")) {
    return respond(plain(403, `Permission to ${repository.owner.login}/${repository.name}.git denied.\n`))
  }
  await SmartHttp.serve(request, response, {
    directory: repository.directory,
    what: asked.what,
    query,
    user: identity?.user.login ?? "",
    swallow: fault?.kind === "droppedAfter",
    done: async () => {
      if (asked.what === "git-receive-pack") await state.repositories.pushed(repository)
    }
  })
}

/** Handles a request of the REST API. */
const handleRest = async (
  { identities, state }: Parts,
  rateLimit: RateLimit,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  query: URLSearchParams,
  fault: Faults.Fault | undefined
) => {
  const body = await buffer(request)
  const token = tokenOf(request.headers.authorization)
  const identity = token === undefined ? undefined : identities.get(token)
  const url = `http://${request.headers.host}`
  const isOwnServer = path.startsWith("/api/v3/")
  const asked: Rest.EmulatorRequest = {
    method: request.method!,
    path: isOwnServer ? path.slice("/api/v3".length) : path,
    query,
    accept: String(request.headers.accept ?? ""),
    body,
    identity,
    bases: { url, api: isOwnServer ? `${url}/api/v3` : url }
  }
  const isUnknownToken = token !== undefined && identity === undefined
  const hasNoUserAgent = request.headers["user-agent"] === undefined
  const answer = hasNoUserAgent
    ? plain(403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.")
    : isUnknownToken
      ? json(401, {
          message: "Bad credentials",
          documentation_url: "https://docs.github.com/rest",
          status: "401"
        })
      : await Rest.handle(state, asked)
  if (fault?.kind === "droppedAfter") return void request.socket.destroy()
  const isKnown = request.headers["if-none-match"] !== undefined
  send(request, response, answer, rateLimit(token ?? "", !isKnown), fault?.kind === "cutOff")
}

const handle = async (
  parts: Parts,
  rateLimit: RateLimit,
  request: IncomingMessage,
  response: ServerResponse,
  recorded: RecordedRequest
) => {
  const [path, query = ""] = request.url!.split("?") as [string, string?]
  const fault = parts.faults.take(request.method!, request.url!.replace(/^\/api\/v3(?=\/)/, ""))
  if (fault?.kind === "droppedBefore") return void request.socket.destroy()
  if (fault?.kind === "slow") await pause(fault.ms, response)
  if (recorded.aborted) return
  const instead = fault === undefined ? undefined : Faults.responseOf(fault)
  if (instead !== undefined) {
    request.resume()
    return send(request, response, instead, rateLimit("", false), false)
  }
  const parameters = new URLSearchParams(query)
  const asked = SmartHttp.parse(path, parameters)
  if (asked === undefined) await handleRest(parts, rateLimit, request, response, path, parameters, fault)
  else await handleGit(parts, request, response, asked, query, fault)
}

/** Listens on a free port of the loopback. */
export const listen = async (parts: Parts): Promise<Server> => {
  const rateLimit = makeRateLimit()
  const server = createServer((request, response) => {
    const recorded: RecordedRequest = {
      method: request.method!,
      path: request.url!,
      headers: request.headers,
      status: null,
      aborted: false
    }
    parts.requests.push(recorded)
    response.once("finish", () => {
      recorded.status = response.statusCode
    })
    response.once("close", () => {
      recorded.aborted = !response.writableFinished
    })
    handle(parts, rateLimit, request, response, recorded).catch((cause: unknown) => {
      // Shows a defect of the emulator itself to the test.
      if (!response.headersSent) send(request, response, plain(500, String(cause)), {}, false)
      else request.socket.destroy()
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(0, "127.0.0.1", resolve)
  })
  return server
}
