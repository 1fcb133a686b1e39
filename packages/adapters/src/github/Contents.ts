/** A file's bytes. GitHub follows a link to a file of the same repository, and describes what has no bytes. */
import type { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import type { CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import { maxFileBytes } from "@castellan/domain/repo/RepoHost.ts"
import { Effect } from "effect"
import type { RequestFailed } from "./RequestFailed.ts"
import type { ApiResponse, SendRequest } from "./Requests.ts"

/** The bytes, or why there are none. */
export type Content = Uint8Array | "notAFile" | "tooLarge"

/** A directory, a submodule, a link to nowhere are described in JSON; a file, even one of JSON, has a type of its own. */
const isDescription = ({ headers }: ApiResponse) => /^application\/json\b/.test(String(headers["content-type"]))

const bytes = async (answer: ApiResponse): Promise<Content> => {
  const { body, headers } = answer
  const refused = isDescription(answer)
    ? "notAFile"
    : headers["content-encoding"] === undefined && Number(headers["content-length"]) > maxFileBytes
      ? "tooLarge"
      : undefined
  if (refused !== undefined) {
    await body.cancel()
    return refused
  }
  const chunks: Array<Uint8Array> = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > maxFileBytes) return "tooLarge"
    chunks.push(chunk)
  }
  return new Uint8Array(Buffer.concat(chunks))
}

export const make =
  (ask: SendRequest) =>
  (repo: Repo, path: RepoPath, ref?: CommitId): Effect.Effect<Content, RequestFailed> => {
    // Half a character can't be in a URL.
    if (/\p{Surrogate}/u.test(path)) return Effect.succeed("notAFile")
    const encoded = path.split("/").map(encodeURIComponent).join("/")
    return ask(
      `GET /repos/{owner}/{repo}/contents/${encoded}`,
      {
        owner: repo.owner,
        repo: repo.name,
        ...(ref !== undefined && { ref }),
        headers: { accept: "application/vnd.github.raw+json" }
      },
      bytes
    ).pipe(
      // Above 100 MB GitHub itself does not give it.
      Effect.catchIf(
        ({ codes }) => codes.includes("data too_large"),
        () => Effect.succeed<Content>("tooLarge")
      )
    )
  }
