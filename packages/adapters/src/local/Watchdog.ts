/** Ends sandboxes that take more of the host than they may. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect } from "effect"
import { type Isolation, processLimit } from "./Isolation.ts"
import type { Running } from "./Machines.ts"
import { run } from "./Spawner.ts"

export interface Limits {
  /** Bytes that a sandbox's own files may take, together with what is kept of its commands' output. */
  readonly disk: number
}

export const tooMuchDisk = "It used more disk space than it may"
export const tooManyProcesses = "It started more processes than it may"

/** How often too many processes must be seen, one look after the other, before it counts. */
const patience = 3

/** Bytes on the disk under each directory, in their order; one program for all of them. */
const diskUse = Effect.fnUntraced(function* (directories: ReadonlyArray<string>) {
  if (directories.length === 0) return []
  const { stdout } = yield* run("watch", ["du", "-sk", "--", ...directories], { cwd: "/", drop: false })
  const kilobytes = new Map(
    stdout.split("\n").flatMap((line) => {
      const [size, directory] = line.split("\t")
      return directory === undefined ? [] : [[directory, Number(size)] as const]
    })
  )
  return directories.map((directory) => (kilobytes.get(directory) ?? 0) * 1024)
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

  /** Those of the sandboxes that have to end, each with the reason. */
  return Effect.fnUntraced(function* (machines: ReadonlyArray<Running>) {
    const directories = machines.flatMap(({ files }) => [files.upper, files.commands])
    const sizes = yield* diskUse(directories)
    return machines.flatMap((machine, index) => {
      const reason =
        sizes[2 * index]! + sizes[2 * index + 1]! > limits.disk
          ? tooMuchDisk
          : isCrowded(machine)
            ? tooManyProcesses
            : undefined
      return reason === undefined ? [] : [{ spec: machine.spec, reason }]
    })
  })
}
