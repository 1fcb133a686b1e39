/** Encodes large file trees in slices, so that other requests are not blocked, and caches the result. */
import type { FileTree } from "@castellan/domain/repo/FileTree.ts"
import { Effect, Schema, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import { setImmediate } from "node:timers/promises"
import { SandboxesResponse } from "../api/groups/AccountSandboxes.ts"

/** Entries encoded before the event loop runs other work: some milliseconds. */
const slice = 2000

/** Whether encoding the tree in one go would block other requests. */
export const isLarge = ({ entries }: FileTree): boolean => entries.length > slice

const encode = async ({ entries }: FileTree): Promise<ReadonlyArray<Uint8Array>> => {
  const pieces: Array<Uint8Array> = []
  for (let from = 0; from < entries.length; from += slice) {
    const some = entries.slice(from, from + slice).map(({ path, sha, size, type }) => ({ path, type, sha, size }))
    pieces.push(Buffer.from(`${from === 0 ? "" : ","}${JSON.stringify(some).slice(1, -1)}`))
    await setImmediate()
  }
  return pieces
}

const encoded = new WeakMap<FileTree, Promise<ReadonlyArray<Uint8Array>>>()

/** The entries as JSON, without the enclosing brackets. */
const piecesOf = (tree: FileTree): Promise<ReadonlyArray<Uint8Array>> => {
  const pieces = encoded.get(tree) ?? encode(tree)
  encoded.set(tree, pieces)
  return pieces
}

const toJson = Schema.encodeEffect(Schema.toCodecJson(SandboxesResponse))

/** The response with the tree's entries as `filetree`. */
export const respond = Effect.fnUntraced(function* (body: typeof SandboxesResponse.Type, tree: FileTree) {
  const encodedBody = yield* Effect.orDie(toJson({ ...body, filetree: [] }))
  const { filetree: _, ...rest } = encodedBody as Record<string, Schema.Json>
  const entries = yield* Effect.promise(() => piecesOf(tree))
  const head = Buffer.from(`${JSON.stringify(rest).slice(0, -1)},"filetree":[`)
  const pieces = [head, ...entries, Buffer.from("]}")]
  return HttpServerResponse.stream(Stream.fromIterable(pieces), {
    contentType: "application/json",
    contentLength: pieces.reduce((size, piece) => size + piece.length, 0)
  })
})
