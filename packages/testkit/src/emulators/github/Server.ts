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

export const listen = async ({ faults, identities, requests, state }: Parts): Promise<Server> => {
  const used = new Map<string, number>()

  const limitsOf = (token: string, counts: boolean) => {
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

  const git = async (
    request: IncomingMessage,
    response: ServerResponse,
    wanted: NonNullable<ReturnType<typeof SmartHttp.parse>>,
    query: string,
    fault: Faults.Fault | undefined
  ) => {
    const answer = (one: Response) => {
      request.resume()
      send(request, response, one, {}, false)
    }
    const token = tokenOf(request.headers.authorization)
    const identity = token === undefined ? undefined : identities.get(token)
    const one = state.repositories.find(wanted.owner, wanted.name)
    const mayRead = one !== undefined && may(identity, one, "read")
    if (identity === undefined && (token !== undefined || !mayRead || wanted.pushes)) {
      return answer(plain(401, "Repository not found.\n", { "www-authenticate": 'Basic realm="GitHub"' }))
    }
    if (!mayRead) {
      const other = state.repositories.movedTo(wanted.owner, wanted.name)
      if (other === undefined || !may(identity, other, "read")) return answer(plain(404, "Repository not found.\n"))
      const location = `/${other.owner.login}/${other.name}.git/${wanted.what}?${query}`
      return answer(plain(301, "", { location }))
    }
    if (wanted.pushes && !may(identity, one, "write")) {
      return answer(plain(403, `Permission to ${one.owner.login}/${one.name}.git denied.\n`))
    }
    await SmartHttp.serve(request, response, {
      directory: one.directory,
      what: wanted.what,
      query,
      user: identity?.user.login ?? "",
      swallow: fault?.kind === "droppedAfter",
      done: async () => {
        if (wanted.what === "git-receive-pack") await state.repositories.pushed(one)
      }
    })
  }

  const rest = async (
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
    const isRefused = token !== undefined && identity === undefined
    const isAnonymous = request.headers["user-agent"] === undefined
    const answer = isAnonymous
      ? plain(403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.")
      : isRefused
        ? json(401, {
            message: "Bad credentials",
            documentation_url: "https://docs.github.com/rest",
            status: "401"
          })
        : await Rest.handle(state, asked)
    if (fault?.kind === "droppedAfter") return void request.socket.destroy()
    const isKnown = request.headers["if-none-match"] !== undefined
    send(request, response, answer, limitsOf(token ?? "", !isKnown), fault?.kind === "cutOff")
  }

  const handle = async (request: IncomingMessage, response: ServerResponse, recorded: RecordedRequest) => {
    const [path, query = ""] = request.url!.split("?") as [string, string?]
    const fault = faults.take(request.method!, request.url!.replace(/^\/api\/v3(?=\/)/, ""))
    if (fault?.kind === "droppedBefore") return void request.socket.destroy()
    if (fault?.kind === "slow") await pause(fault.ms, response)
    if (recorded.aborted) return
    const instead = fault === undefined ? undefined : Faults.responseOf(fault)
    if (instead !== undefined) {
      request.resume()
      return send(request, response, instead, limitsOf("", false), false)
    }
    const parameters = new URLSearchParams(query)
    const wanted = SmartHttp.parse(path, parameters)
    if (wanted === undefined) await rest(request, response, path, parameters, fault)
    else await git(request, response, wanted, query, fault)
  }

  const server = createServer((request, response) => {
    const recorded: RecordedRequest = {
      method: request.method!,
      path: request.url!,
      headers: request.headers,
      status: null,
      aborted: false
    }
    requests.push(recorded)
    response.once("finish", () => {
      recorded.status = response.statusCode
    })
    response.once("close", () => {
      recorded.aborted = !response.writableFinished
    })
    handle(request, response, recorded).catch((cause: unknown) => {
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
