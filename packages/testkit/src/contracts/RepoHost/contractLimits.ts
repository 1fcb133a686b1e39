import type { TreeLimits } from "@castellan/domain/repo/FileTree.ts"

/** The limits to give to a host under test: low, so that a small tree exceeds them. */
export const contractLimits: TreeLimits = { entries: 400, characters: 1024 * 1024, path: 4096 }
