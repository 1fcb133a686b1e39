/** One request of a browser, from its head to the end of the app's answer. */
import { PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { type Agent, type ClientRequest, type IncomingMessage, request as ask, type ServerResponse } from "node:http"
import { Socket } from "node:net"
import { type Duplex, pipeline } from "node:stream"
import { PreviewConnection } from "./PreviewConnection.ts"
import { fromApp, hasBody, toApp } from "./PreviewHeaders.ts"
import type { PreviewTarget } from "./PreviewHost.ts"
import { type PreviewPage, send } from "./PreviewPages.ts"
import { consent } from "./PreviewTunnel.ts"

/** What is asked. */
export interface Asked {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly target: PreviewTarget
  /** The scheme by which the browser came. */
  readonly protocol: string
  /** Whether the client waits to be told to go on before it sends the body. */
  readonly expects?: boolean
  /** Is called when nothing more is to come from the app, unless the request became a connection. */
  readonly over: () => void
  /** Takes the connection over that the request is to become. */
  readonly upgrade?: (app: Duplex, consented: Buffer, heard: Buffer) => void
}

/** How an app is reached. */
export interface Ways {
  /** Over connections that were used before. */
  readonly kept: Agent
  /** Over a connection of its own, which can't break for being old. */
  readonly own: Agent
}

const idempotent = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])

/** Whether it does no harm to ask twice, where the first connection broke without a word. */
const isRepeatable = ({ request, upgrade }: Asked) =>
  upgrade === undefined && idempotent.has(request.method!) && !hasBody(request)

/** The target as the app's own server knows it. */
const pathOf = ({ url = "/" }: IncomingMessage) => {
  const path = url.replace(/^https?:\/\/[^/?#]*/i, "")
  return path === "" || path.startsWith("?") ? `/${path}` : path
}

const pageOf = (failure: Error, mine: ClientRequest, request: IncomingMessage): PreviewPage => {
  const ours = mine.socket instanceof PreviewConnection ? mine.socket : undefined
  if (failure instanceof PreviewUnavailable) return failure.state
  // Some learn only from a connection that breaks at once that nobody listens. One that takes a body does.
  if (failure instanceof PortClosed && ours?.heard !== true && !hasBody(request)) return "starting"
  return ours?.isMade === true ? "broken" : "unreachable"
}

/** Asks the app and answers with what it says, or with a page; gives a way to break it off. */
export const exchange = (asked: Asked, ways: Ways): (() => void) => {
  const { request, response, target } = asked
  let upstream: ClientRequest | undefined
  let isOver = false

  const stop = () => {
    isOver = true
    upstream?.destroy()
  }

  /** What was sent of an answer must not look like all of it. */
  const cut = () => {
    const { socket } = response
    stop()
    // Where only the connection's end ends an answer, it has to be an end that no answer has.
    if (!response.chunkedEncoding && socket instanceof Socket) socket.resetAndDestroy()
    else response.destroy()
  }

  /** Takes the body away from whoever no longer reads it. */
  const drain = (from: ClientRequest | undefined) => {
    if (asked.upgrade !== undefined) return
    if (from !== undefined) request.unpipe(from)
    request.resume()
  }

  const giveUp = (page: PreviewPage) => {
    if (isOver || response.writableEnded) return
    if (response.headersSent) return cut()
    stop()
    drain(upstream)
    send(request, response, page)
  }

  const answerWith = (answer: IncomingMessage, mine: ClientRequest, agent: Agent) => {
    const coding = answer.headers["transfer-encoding"]?.toLowerCase() ?? "chunked"
    if (answer.statusCode! < 200 || coding !== "chunked") return giveUp("broken")
    try {
      response.writeHead(answer.statusCode!, answer.statusMessage, fromApp(answer))
      response.flushHeaders()
    } catch {
      return giveUp("broken")
    }
    answer.once("end", () => {
      if (agent !== ways.own) return
      // It is not used again, and an app that has said all does not wait for the rest of a body.
      drain(mine)
      mine.socket?.destroy()
    })
    pipeline(answer, response, (failure) => failure && !isOver && cut())
  }

  const sendHead = (mine: ClientRequest, host: string) => {
    const isUpgrade = asked.upgrade !== undefined
    for (const [name, values] of Object.entries(toApp(request, asked.protocol, host, isUpgrade))) {
      mine.setHeader(name, values)
    }
    if (isUpgrade || !hasBody(request)) return mine.end()
    if (asked.expects === true) response.writeContinue()
    request.pipe(mine)
  }

  const begin = (agent: Agent) => {
    const { name: host, port } = target
    const mine = ask({ agent, host, port, setHost: false, method: request.method!, path: pathOf(request) })
    let isFirst = true
    upstream = mine
    mine.on("socket", (connection) => {
      if (!(connection instanceof PreviewConnection)) return
      isFirst = connection.isUnused
      connection.isUnused = false
      connection.ready((named) => mine.destroyed || orRefuse(() => sendHead(mine, named)))
    })
    mine.on("response", (answer) => answerWith(answer, mine, agent))
    mine.on("upgrade", (answer, app, heard) => {
      if (asked.upgrade === undefined) {
        app.destroy()
        return giveUp("broken")
      }
      isOver = true
      asked.upgrade(app, consent(answer), heard)
    })
    mine.on("error", (failure) => {
      if (isOver || mine !== upstream) return
      if (!isFirst && !response.headersSent && isRepeatable(asked)) begin(ways.own)
      else giveUp(pageOf(failure, mine, request))
    })
    mine.on("close", () => {
      drain(mine)
      if (mine !== upstream) return
      if (!response.headersSent) giveUp("broken")
      asked.over()
    })
  }

  const orRefuse = (step: () => void) => {
    try {
      step()
    } catch {
      giveUp("refused")
    }
  }

  response.once("close", () => {
    if (!response.writableFinished) stop()
  })
  orRefuse(() => begin(isRepeatable(asked) ? ways.kept : ways.own))
  return stop
}
