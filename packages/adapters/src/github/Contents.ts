/** Reads the bytes of a file. GitHub follows links within the repository, and describes other objects in JSON. */
import type { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import type { CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import { maxFileBytes } from "@castellan/domain/repo/RepoHost.ts"
import { Effect } from "effect"
import type { RequestFailed } from "./RequestFailed.ts"
import type { ApiResponse, SendRequest } from "./Requests.ts"

/** The bytes of a file, or why there are none. */
export type Content = Uint8Array | "notAFile" | "tooLarge"

/** Directories, submodules and dangling links are described in JSON. Files, even JSON files, have GitHub's raw media type. */
const isDescription = ({ headers }: ApiResponse) => /^application\/json\b/.test(String(headers["content-type"]))

const bytes = async (response: ApiResponse): Promise<Content> => {
  const { body, headers } = response
  const problem = isDescription(response)
    ? "notAFile"
    : headers["content-encoding"] === undefined && Number(headers["content-length"]) > maxFileBytes
      ? "tooLarge"
      : undefined
  if (problem !== undefined) {
    await body.cancel()
    return problem
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
  (send: SendRequest) =>
  (repo: Repo, path: RepoPath, ref?: CommitId): Effect.Effect<Content, RequestFailed> => {
    // A lone surrogate can't be encoded in a URL.
    if (/\p{Surrogate}/u.test(path)) return Effect.succeed("notAFile")
    const encoded = path.split("/").map(encodeURIComponent).join("/")
    return send(
      `GET /repos/{owner}/{repo}/contents/${encoded}`,
      {
        owner: repo.owner,
        repo: repo.name,
        ...(ref !== undefined && { ref }),
        headers: { accept: "application/vnd.github.raw+json" }
      },
      bytes
    ).pipe(
      // GitHub does not serve files of more than 100 MB.
      Effect.catchIf(
        ({ codes }) => codes.includes("data too_large"),
        () => Effect.succeed<Content>("tooLarge")
      )
    )
  }
