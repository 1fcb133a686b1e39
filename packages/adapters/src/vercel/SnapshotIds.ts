/** Castellan's snapshot ids: Vercel's id plus the source sandbox, which Vercel does not report for a single snapshot. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { Schema } from "effect"

const isName = Schema.is(SandboxName)

/** The id that the domain stores for a snapshot. */
export const idOf = (vercelId: string, source: SandboxName): SnapshotId =>
  SnapshotId.make(`${vercelId}-${source}-${vercelId.length}`)

/** Vercel's id, and the source sandbox if the id contains one. */
export const parse = (id: SnapshotId): { readonly vercelId: string; readonly source: SandboxName | undefined } => {
  const length = Number(/-(\d{1,3})$/.exec(id)?.[1] ?? 0)
  const source = id.slice(length + 1, id.lastIndexOf("-"))
  return length > 0 && id[length] === "-" && isName(source)
    ? { vercelId: id.slice(0, length), source }
    : { vercelId: id, source: undefined }
}
