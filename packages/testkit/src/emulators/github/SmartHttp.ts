/** Serves clone, fetch and push with git's own `http-backend`. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import type { IncomingMessage, ServerResponse } from "node:http"
import { basename, dirname, join } from "node:path"
import * as Git from "./Git.ts"

/** Parses a request of git's HTTP protocol; undefined for other requests. */
export const parse = (path: string, query: URLSearchParams) => {
  const found = /^\/([^/]+)\/([^/]+?)(?:\.git)?\/(info\/refs|git-upload-pack|git-receive-pack)$/.exec(path)
  if (found === null) return undefined
  const service = found[3] === "info/refs" ? query.get("service") : found[3]
  return { owner: found[1]!, name: found[2]!, what: found[3]!, pushes: service === "git-receive-pack" }
}

let backend: string | undefined

const program = () =>
  (backend ??= join(
    execFileSync("git", ["--exec-path"], { env: Git.environment, encoding: "utf8" }).trim(),
    "git-http-backend"
  ))

/** The length of the head of a CGI response with the empty line after it; -1 if it is incomplete. */
const headLength = (bytes: Buffer) => {
  const long = bytes.indexOf("\r\n\r\n")
  if (long >= 0) return long + 4
  const short = bytes.indexOf("\n\n")
  return short < 0 ? -1 : short + 2
}

const write = (response: ServerResponse, head: string) => {
  for (const line of head.split(/\r?\n/)) {
    const colon = line.indexOf(":")
    if (colon < 0) continue
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).trim()]
    if (name.toLowerCase() === "status") response.statusCode = Number.parseInt(value, 10)
    else response.setHeader(name, value)
  }
}

/** Relays the response of the program, and returns whether there was one. */
const relay = async (child: ChildProcess, response: ServerResponse, swallow: boolean): Promise<boolean> => {
  let head: Buffer | undefined = Buffer.alloc(0)
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    if (swallow) continue
    let rest = chunk
    if (head !== undefined) {
      head = Buffer.concat([head, chunk])
      const length = headLength(head)
      if (length < 0) continue
      write(response, head.subarray(0, length).toString("latin1"))
      rest = head.subarray(length)
      head = undefined
    }
    if (!response.write(rest) && !response.destroyed) {
      await new Promise<void>((resolve) => {
        const go = () => {
          response.off("drain", go).off("close", go)
          resolve()
        }
        response.on("drain", go).on("close", go)
      })
    }
  }
  return head === undefined
}

/** Serves a request with `http-backend`. With `swallow` the request is handled without a response. */
export const serve = async (
  request: IncomingMessage,
  response: ServerResponse,
  options: {
    readonly directory: string
    readonly what: string
    readonly query: string
    readonly user: string
    readonly swallow: boolean
    /** Runs before the response ends. */
    readonly done: () => Promise<void>
  }
): Promise<void> => {
  const header = (name: string) => String(request.headers[name] ?? "")
  const child = spawn(program(), [], {
    env: {
      ...Git.environment,
      GIT_PROJECT_ROOT: dirname(options.directory),
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_PROTOCOL: header("git-protocol"),
      PATH_INFO: `/${basename(options.directory)}/${options.what}`,
      REQUEST_METHOD: request.method,
      QUERY_STRING: options.query,
      CONTENT_TYPE: header("content-type"),
      // Without a length the program reads to the end of its input.
      ...(header("content-length") === "" ? {} : { CONTENT_LENGTH: header("content-length") }),
      HTTP_CONTENT_ENCODING: header("content-encoding"),
      REMOTE_ADDR: "127.0.0.1",
      REMOTE_USER: options.user
    },
    stdio: ["pipe", "pipe", "ignore"]
  })
  const isStarted = new Promise<boolean>((resolve) => {
    child.once("spawn", () => resolve(true))
    child.once("error", () => resolve(false))
  })
  // The program stops reading once it has refused the request.
  child.stdin.on("error", () => undefined)
  request.pipe(child.stdin)
  response.once("close", () => {
    if (child.exitCode === null) child.kill("SIGKILL")
  })
  const isAnswered = (await isStarted) && (await relay(child, response, options.swallow))
  await options.done()
  if (options.swallow) return void request.socket.destroy()
  if (!isAnswered) response.statusCode = 500
  response.end()
}
