/** The contract of RepoHost: what every host of repositories guarantees. */
import type { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import type { Layer } from "effect"
import { type ContractOptions, runContract } from "../contract.ts"
import { urls } from "./urls.ts"
import { repositories } from "./repositories.ts"
import { trees } from "./trees.ts"
import { files } from "./files.ts"
import { fetching } from "./fetching.ts"
import { publicAccess } from "./publicAccess.ts"
import { pushing } from "./pushing.ts"
import type { NewAuthor, Publish } from "./Author.ts"

/**
 * The clauses by topic. `newAuthor` creates authors who exchange commits with the host as bundles; `publish` pushes
 * branches to a public repository.
 */
export const topics = <R = never>(newAuthor: NewAuthor, publish: Publish<R>) => ({
  urls,
  repositories: repositories(newAuthor),
  trees: trees(newAuthor, publish),
  files: files(newAuthor),
  fetching: fetching(newAuthor),
  publicAccess: publicAccess(newAuthor, publish),
  pushing: pushing(newAuthor)
})

export type Topic = keyof ReturnType<typeof topics>

export const contract = <R, E>(
  subject: string,
  layer: Layer.Layer<R | RepoHost, E>,
  newAuthor: NewAuthor,
  publish: Publish<R>,
  options?: ContractOptions<Topic>
) => runContract<R | RepoHost, E, Topic>("RepoHost", subject, layer, topics(newAuthor, publish), options)
