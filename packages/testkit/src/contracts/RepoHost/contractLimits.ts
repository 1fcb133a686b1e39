import type { TreeLimits } from "@castellan/domain/repo/FileTree.ts"

/** Limits that a host under this contract is given: low ones, so that a small tree is beyond them. */
export const contractLimits: TreeLimits = { entries: 4000, characters: 1024 * 1024, path: 4096 }
