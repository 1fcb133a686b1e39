/** Fetches the source of a new sandbox, a repository or an archive, and unpacks it in the sandbox. */
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { Effect, Stream } from "effect"
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, posix } from "node:path"
import { badRequest, type ApiError } from "../wire/responses.ts"
import { fileFailure, run } from "./Files.ts"
import type { SessionModel } from "./models.ts"
import type { EmulatorState } from "./EmulatorState.ts"
import { unpacked } from "../wire/Tar.ts"
import type { Source as SourceRequest } from "../wire/requestSchemas.ts"

/** A gzipped tar of the files for the home directory. */
export type Source = Effect.Effect<Buffer, ApiError>

const environment = {
  PATH: "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
  HOME: "/nonexistent",
  LC_ALL: "C",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_TERMINAL_PROMPT: "0"
}

/** Runs a program of the host and returns its output. */
const printed = (command: string, args: ReadonlyArray<string>) =>
  new Promise<Buffer>((resolve, reject) => {
    const child = spawn(command, args, { env: environment, stdio: ["ignore", "pipe", "ignore"] })
    const pieces: Array<Buffer> = []
    child.stdout.on("data", (piece: Buffer) => pieces.push(piece))
    child.on("error", reject)
    child.on("close", (code) =>
      code === 0 ? resolve(Buffer.concat(pieces)) : reject(new Error(`${command}: ${code}`))
    )
  })

interface Repository {
  readonly url: string
  readonly depth: number | undefined
  readonly revision: string | undefined
}

/** Clones a repository into a directory with its name. */
const cloned = ({ depth, revision, url }: Repository): Source =>
  Effect.acquireUseRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-source-"))),
    (directory) =>
      Effect.tryPromise({
        try: async () => {
          const name = posix.basename(new URL(url).pathname).replace(/\.git$/, "")
          const into = join(directory, name)
          const shallow = depth === undefined ? [] : [`--depth=${depth}`]
          await printed("git", ["clone", "--quiet", ...(revision === undefined ? shallow : []), "--", url, into])
          if (revision !== undefined) await printed("git", ["-C", into, "checkout", "--quiet", "--detach", revision])
          return printed("tar", ["-czf", "-", "-C", directory, "--", name])
        },
        catch: () => badRequest("The repository can't be cloned.")
      }),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
  )

const downloaded = (url: string): Source =>
  Effect.tryPromise({
    try: async () => {
      const answer = await fetch(url)
      if (!answer.ok) throw new Error(String(answer.status))
      return Buffer.from(await answer.arrayBuffer())
    },
    catch: () => badRequest("The archive can't be downloaded.")
  })

/** The source that a request names; fails if its URL is invalid. */
export const sourceOf = Effect.fnUntraced(function* (request: SourceRequest) {
  const url = request.url !== undefined && URL.canParse(request.url) ? new URL(request.url) : undefined
  if (url === undefined) return yield* badRequest("Invalid request: `source.url` should be a URL.")
  if (request.type === "tarball") return downloaded(url.href)
  url.username = request.username ?? url.username
  url.password = request.password ?? url.password
  return cloned({ url: url.href, depth: request.depth, revision: request.revision })
})

/** Unpacks a source in the home directory of a running session: with `tar`, or file by file if the sandbox has no `tar`. */
export const seed = Effect.fnUntraced(function* (state: EmulatorState, session: SessionModel, source: Source) {
  const archive = yield* source
  const { providerName } = session.sandbox
  const refuse = fileFailure(state, session)
  const write = (path: string, bytes: Uint8Array) =>
    Effect.catch(state.provider.writeFile(providerName, SandboxPath.make(path), Stream.make(bytes)), refuse)
  const at = "/tmp/.source.tar.gz"
  yield* write(at, archive)
  const extract = ["-xzf", at, "-C", state.home]
  const done = yield* Effect.catch(run(state, session, "tar", extract), refuse)
  if (done === undefined) {
    for (const { bytes, name } of yield* unpacked(archive)) yield* write(posix.resolve(state.home, name), bytes)
  } else if (done.exitCode !== 0) {
    return yield* badRequest(`The source can't be unpacked: ${done.complaint.trim()}`)
  }
  yield* Effect.catch(run(state, session, "rm", ["-f", at]), refuse)
})
