/** What a new sandbox finds in its home: a repository or an archive, fetched by this machine. */
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { Effect, Stream } from "effect"
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, posix } from "node:path"
import { badRequest, type Refused } from "../wire/Answers.ts"
import { refused, run } from "./Files.ts"
import type { KeptSession } from "./Kept.ts"
import type { Site } from "./Site.ts"
import { unpacked } from "../wire/Tar.ts"
import { type Body, integer, text } from "../wire/Wanted.ts"

/** A gzipped tar, for the home of a sandbox. */
export type Source = Effect.Effect<Buffer, Refused>

const environment = {
  PATH: "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
  HOME: "/nonexistent",
  LC_ALL: "C",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_TERMINAL_PROMPT: "0"
}

/** What a program of this machine prints. */
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

/** The repository, in a directory of its own name. */
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

/** What the body of a request names as the source; undefined where that is none of these. */
export const sourceOf = Effect.fnUntraced(function* (body: Body) {
  const given = yield* text(body, "url")
  const url = given !== undefined && URL.canParse(given) ? new URL(given) : undefined
  if (url === undefined) return yield* badRequest("Invalid request: `source.url` should be a URL.")
  if (body["type"] === "tarball") return downloaded(url.href)
  url.username = (yield* text(body, "username")) ?? url.username
  url.password = (yield* text(body, "password")) ?? url.password
  return cloned({ url: url.href, depth: yield* integer(body, "depth"), revision: yield* text(body, "revision") })
})

/** Unpacks a source in the home of a running session: by `tar`, and file by file where there is none. */
export const seed = Effect.fnUntraced(function* (site: Site, session: KeptSession, source: Source) {
  const archive = yield* source
  const { providerName } = session.sandbox
  const refuse = refused(site, session)
  const write = (path: string, bytes: Uint8Array) =>
    Effect.catch(site.provider.writeFile(providerName, SandboxPath.make(path), Stream.make(bytes)), refuse)
  const at = "/tmp/.source.tar.gz"
  yield* write(at, archive)
  const extract = ["-xzf", at, "-C", site.home]
  const done = yield* Effect.catch(run(site, session, "tar", extract), refuse)
  if (done === undefined) {
    for (const { bytes, name } of yield* unpacked(archive)) yield* write(posix.resolve(site.home, name), bytes)
  } else if (done.exitCode !== 0) {
    return yield* badRequest(`The source can't be unpacked: ${done.complaint.trim()}`)
  }
  yield* Effect.catch(run(site, session, "rm", ["-f", at]), refuse)
})
