/** The server before REST and git: who asks, what goes wrong, how an answer is sent, and a record of it all. */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse
} from "node:http"
import { buffer } from "node:stream/consumers"
import type { Planned } from "../Faults.ts"
import { type Answer, json, plain, send } from "./Answers.ts"
import * as Faults from "./Faults.ts"
import { type Identity, may } from "./Repositories.ts"
import * as Rest from "./Rest.ts"
import * as SmartHttp from "./SmartHttp.ts"

/** A request that came, with all its headers; the credential too. */
export interface Recorded {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** Null until it is answered, and where the connection went first. */
  status: number | null
  /** Whether the client went before it was answered. */
  aborted: boolean
}

export interface Parts {
  readonly site: Rest.Site
  readonly identities: ReadonlyMap<string, Identity>
  readonly faults: Planned<Faults.Fault>
  readonly requests: Array<Recorded>
}

/** Requests an hour that a token has. */
const hourly = 5000

/** The token that a request carries, in any of the ways that GitHub takes one. */
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

export const listen = async ({ faults, identities, requests, site }: Parts): Promise<Server> => {
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
    const answer = (one: Answer) => {
      request.resume()
      send(request, response, one, {}, false)
    }
    const token = tokenOf(request.headers.authorization)
    const identity = token === undefined ? undefined : identities.get(token)
    const one = site.repositories.find(wanted.owner, wanted.name)
    const mayRead = one !== undefined && may(identity, one, "read")
    if (identity === undefined && (token !== undefined || !mayRead || wanted.pushes)) {
      return answer(plain(401, "Repository not found.\n", { "www-authenticate": 'Basic realm="GitHub"' }))
    }
    if (!mayRead) {
      const other = site.repositories.movedTo(wanted.owner, wanted.name)
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
        if (wanted.what === "git-receive-pack") await site.repositories.pushed(one)
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
    const asked: Rest.Asked = {
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
        : await Rest.answer(site, asked)
    if (fault?.kind === "droppedAfter") return void request.socket.destroy()
    const isKnown = request.headers["if-none-match"] !== undefined
    send(request, response, answer, limitsOf(token ?? "", !isKnown), fault?.kind === "cutOff")
  }

  const handle = async (request: IncomingMessage, response: ServerResponse, recorded: Recorded) => {
    const [path, query = ""] = request.url!.split("?") as [string, string?]
    const fault = faults.take(request.method!, request.url!.replace(/^\/api\/v3(?=\/)/, ""))
    if (fault?.kind === "droppedBefore") return void request.socket.destroy()
    if (fault?.kind === "slow") await pause(fault.ms, response)
    if (recorded.aborted) return
    const instead = fault === undefined ? undefined : Faults.answerOf(fault)
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
    const recorded: Recorded = {
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
      // What the emulator itself gets wrong is to be seen.
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
