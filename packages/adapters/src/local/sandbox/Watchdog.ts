/** Finds sandboxes that exceed their limits of disk space or processes. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Clock, Effect } from "effect"
import { type Isolation, processLimit, type RunningSandbox } from "../isolation/Isolation.ts"
import { isRoot } from "../process/Spawn.ts"
import { run } from "../process/Spawner.ts"
import type { Layout } from "../storage/Layout.ts"
import { measureRemoved, measureTrees } from "./scripts.ts"

export interface Limits {
  /** Bytes of a sandbox's own files and its commands' output together; 10 GiB by default. */
  readonly disk: number
}

/** 10 GiB. */
const defaultDiskLimit = 10 * 1024 * 1024 * 1024

export const diskLimitExceeded = "It exceeded its disk limit"
export const processLimitExceeded = "It exceeded its process limit"

/** Consecutive checks that must find too many processes. */
const crowdedChecks = 3

/** Bounds of the pause between two measurements of the disk, in milliseconds. */
const minMeasurePause = 1000
const maxMeasurePause = 30_000

/** The pause as a multiple of a measurement's duration, so that measuring takes a small part of one processor. */
const pauseFactor = 10

/** Kilobytes that an inode counts at least, on average: a file system has a limited number of them. */
const kilobytesPerInode = 4

/** Parses lines of a name and numbers, separated by blanks, by name. Skips other lines. */
const parseNumbers = (text: string): ReadonlyMap<string, ReadonlyArray<number>> =>
  new Map(
    text.split("\n").flatMap((line) => {
      const [name = "", ...numbers] = line.split(" ")
      return numbers.length > 0 && numbers.every((number) => /^\d+$/.test(number)) ? [[name, numbers.map(Number)]] : []
    })
  )

/**
 * Bytes on the disk of each sandbox: its directories, and deleted files that it holds open. The program that walks the
 * directories is root of a user namespace if the server is not root, because a directory may be closed to its owner.
 */
export const measureDisk = Effect.fnUntraced(function* (
  layout: Pick<Layout, "sandboxes">,
  isolation: Pick<Isolation, "kind">,
  sandboxes: ReadonlyArray<RunningSandbox>
) {
  if (sandboxes.length === 0) return []
  const hasNamespaces = isolation.kind !== "none"
  const asOwner = isRoot || !hasNamespaces ? [] : ["unshare", "--user", "--map-root-user"]
  const directories = sandboxes.map(({ record }) => [`${record.name}/upper`, `${record.name}/commands`])
  const inits = hasNamespaces ? sandboxes.map(({ init }) => String(init.pid)) : []
  const options = { cwd: layout.sandboxes, user: false } as const
  const [trees, removed] = yield* Effect.all(
    [
      run("watch", [...asOwner, "sh", "-c", measureTrees, "measure", ...directories.flat()], options),
      run("watch", ["sh", "-c", measureRemoved, "measure", ...inits], options)
    ],
    { concurrency: 2 }
  )
  const usageOf = parseNumbers(trees.stdout)
  const removedOf = parseNumbers(removed.stdout)
  return sandboxes.map(({ init }, index) => {
    const usages = directories[index]!.map((directory) => {
      const [kilobytes = 0, inodes = 0] = usageOf.get(directory) ?? []
      return Math.max(kilobytes, kilobytesPerInode * inodes)
    })
    return 1024 * usages.reduce((sum, kilobytes) => sum + kilobytes, removedOf.get(String(init.pid))?.[0] ?? 0)
  })
})

/** Makes a check that returns the sandboxes to stop, each with the reason. */
export const make = (layout: Layout, isolation: Isolation, limits: Partial<Limits> = {}) => {
  const { disk = defaultDiskLimit } = limits
  const crowded = new Map<SandboxName, number>()

  const isCrowded = (sandbox: RunningSandbox): boolean => {
    const { name } = sandbox.record
    const checks = isolation.countProcesses(sandbox.init) > processLimit ? (crowded.get(name) ?? 0) + 1 : 0
    if (checks === 0) crowded.delete(name)
    else crowded.set(name, checks)
    return checks >= crowdedChecks
  }

  let nextMeasurement = 0

  /** The sandboxes over the disk limit; none before the next measurement is due. */
  const overDiskLimit = Effect.fnUntraced(function* (sandboxes: ReadonlyArray<RunningSandbox>) {
    const start = yield* Clock.currentTimeMillis
    if (start < nextMeasurement) return []
    const sizes = yield* measureDisk(layout, isolation, sandboxes)
    const end = yield* Clock.currentTimeMillis
    nextMeasurement = end + Math.min(maxMeasurePause, Math.max(minMeasurePause, pauseFactor * (end - start)))
    return sandboxes.filter((_, index) => sizes[index]! > disk)
  })

  return Effect.fnUntraced(function* (sandboxes: ReadonlyArray<RunningSandbox>) {
    const full = yield* overDiskLimit(sandboxes)
    const tooMany = sandboxes.filter((sandbox) => isCrowded(sandbox) && !full.includes(sandbox))
    return [
      ...full.map(({ record }) => ({ record, reason: diskLimitExceeded })),
      ...tooMany.map(({ record }) => ({ record, reason: processLimitExceeded }))
    ]
  })
}
