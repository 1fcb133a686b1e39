/** Ends sandboxes that take more of the host than they may. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Clock, Effect } from "effect"
import { type Isolation, processLimit } from "../isolation/Isolation.ts"
import type { Running } from "./Machines.ts"
import { measureRemoved } from "../isolation/scripts.ts"
import { isRoot } from "../process/Spawn.ts"
import { run } from "../process/Spawner.ts"

export interface Limits {
  /** Bytes that a sandbox's own files may take, together with what is kept of its commands' output. */
  readonly disk: number
}

export const tooMuchDisk = "It used more disk space than it may"
export const tooManyProcesses = "It started more processes than it may"

/** How often too many processes must be seen, one look after the other, before it counts. */
const patience = 3

/** Milliseconds between two looks at the disk, at least and at most. */
const measureEvery = 1000
const measureAtMostEvery = 30_000

/** How many times as long as a look took the next one waits: it must not take more than a part of a processor. */
const pause = 10

/** Kilobytes that a file counts at least, on average: a file system has only so many. */
const kilobytesOfInode = 4

/** How long one measurement may take. */
const bounded = ["timeout", "60"]

/** Numbers that a program printed, one in each line, after what they are the number of. */
const numbersIn = (text: string, order: (line: string) => readonly [string, string]) =>
  new Map(
    text.split("\n").flatMap((line) => {
      const [of, number] = order(line)
      return /^\d+$/.test(number) ? [[of, Number(number)] as const] : []
    })
  )

/**
 * Bytes on the disk that each sandbox takes: under its directories, and in files that it has removed and holds open. One
 * program measures all directories. It is root of a user namespace where the server is not root, since a directory may be
 * closed to its owner.
 */
const diskUse = Effect.fnUntraced(function* (isolation: Isolation, machines: ReadonlyArray<Running>) {
  if (machines.length === 0) return []
  const asOwner = isRoot || isolation.kind === "none" ? [] : ["unshare", "--user", "--map-root-user"]
  const directories = machines.map(({ files }) => [files.upper, files.commands])
  const inits = isolation.kind === "none" ? [] : machines.map(({ booted }) => String(booted.pid))
  const options = { cwd: "/", user: false } as const
  const [trees, inodes, removed] = yield* Effect.all(
    [
      run("watch", [...asOwner, ...bounded, "du", "-sk", "--", ...directories.flat()], options),
      run("watch", [...asOwner, ...bounded, "du", "-s", "--inodes", "--", ...directories.flat()], options),
      run("watch", ["sh", "-c", measureRemoved, "measure", ...inits], options)
    ],
    { concurrency: 2 }
  )
  const ofDirectories = (stdout: string) =>
    numbersIn(stdout, (line) => {
      const [size = "", directory = ""] = line.split("\t")
      return [directory, size]
    })
  const byDirectory = ofDirectories(trees.stdout)
  const inodesOf = ofDirectories(inodes.stdout)
  const byInit = numbersIn(removed.stdout, (line) => {
    const [init = "", size = ""] = line.split(" ")
    return [init, size]
  })
  return machines.map(({ booted }, index) => {
    const own = directories[index]!.map((directory) =>
      Math.max(byDirectory.get(directory) ?? 0, kilobytesOfInode * (inodesOf.get(directory) ?? 0))
    )
    return 1024 * own.reduce((sum, size) => sum + size, byInit.get(String(booted.pid)) ?? 0)
  })
})

export const make = (isolation: Isolation, limits: Limits) => {
  const crowded = new Map<SandboxName, number>()

  const isCrowded = (machine: Running): boolean => {
    const { name } = machine.spec
    const seen = isolation.processes(machine.booted) > processLimit ? (crowded.get(name) ?? 0) + 1 : 0
    if (seen === 0) crowded.delete(name)
    else crowded.set(name, seen)
    return seen >= patience
  }

  let measureAt = 0

  /** Those of the sandboxes that take too much of the disk; none if it is too early to look again. */
  const overfull = Effect.fnUntraced(function* (machines: ReadonlyArray<Running>) {
    const begun = yield* Clock.currentTimeMillis
    if (begun < measureAt) return []
    const sizes = yield* diskUse(isolation, machines)
    const ended = yield* Clock.currentTimeMillis
    measureAt = ended + Math.min(measureAtMostEvery, Math.max(measureEvery, pause * (ended - begun)))
    return machines.filter((_, index) => sizes[index]! > limits.disk)
  })

  /** Those of the sandboxes that have to end, each with the reason. */
  return Effect.fnUntraced(function* (machines: ReadonlyArray<Running>) {
    const full = yield* overfull(machines)
    const tooMany = machines.filter((machine) => isCrowded(machine) && !full.includes(machine))
    return [
      ...full.map(({ spec }) => ({ spec, reason: tooMuchDisk })),
      ...tooMany.map(({ spec }) => ({ spec, reason: tooManyProcesses }))
    ]
  })
}
