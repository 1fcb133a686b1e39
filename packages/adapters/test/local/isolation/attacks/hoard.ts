/**
 * Fills the disk in ways that are hard to measure or to remove, as the current user: once in a sandbox of the provider, and
 * once in a plain directory that `du` measures and `rm` removes. Prints the outcomes as JSON.
 */
import { makeLayout as layoutOf } from "../../../../src/local/storage/Layout.ts"
import * as LocalSandbox from "../../../../src/local/LocalSandbox.ts"
import { CommandId } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Option, Schedule } from "effect"
import { execFile } from "node:child_process"
import { readdir, rm } from "node:fs/promises"

const [directory = ""] = process.argv.slice(2)
const layout = layoutOf(directory)

const limit = 40 * 1024 * 1024
const fill = "head -c 60000000 /dev/zero"

const hoards = {
  "in a file that it has deleted": `exec 3> big; rm big; ${fill} >&3`,
  "in a directory that is closed": `mkdir closed; ${fill} > closed/big; chmod 000 closed`,
  "below ten thousand directories": `${fill} > big; perl -e 'for (1 .. 10000) { mkdir "d"; chdir "d" }'`
}

/** Runs the script in a sandbox until that is stopped, removes the sandbox completely, and returns the reason. */
const stopReason = Effect.fnUntraced(function* (script: string, index: number) {
  const provider = yield* SandboxProvider
  const name = SandboxName.make(`hoard-${index}`)
  yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
  const command = {
    id: CommandId.make("hoard"),
    command: "sh",
    args: ["-c", `${script}; sleep 120`],
    cwd: null,
    env: {}
  }
  yield* provider.start(name, { ...command, timeout: Duration.minutes(3) })
  const find = Effect.map(provider.find(name), Option.getOrThrow)
  const wait = {
    schedule: Schedule.spaced("100 millis"),
    until: ({ status }: { status: string }) => status !== "running"
  }
  const { reason } = yield* Effect.repeat(find, wait)
  yield* provider.remove(name)
  yield* Effect.repeat(
    Effect.promise(() => readdir(layout.trash)),
    { schedule: Schedule.spaced("100 millis"), until: (left) => left.length === 0 }
  )
  return reason
})

/** Whether `du` sees everything in the directory, and `rm` removes it. */
const isPlainSufficient = (script: string) =>
  Effect.promise(async () => {
    const at = `${directory}-plain`
    const run = (command: string) =>
      new Promise<string>((resolve) => execFile("sh", ["-c", command], { cwd: "/" }, (_, out) => resolve(out)))
    const size = await run(`mkdir ${at} && cd ${at} && { ${script}; du -sk ${at} 2> /dev/null | cut -f1; }`)
    const isRemoved = await rm(at, { recursive: true }).then(
      () => true,
      () => false
    )
    await run(`chmod -R u+rwX ${at}; rm -rf ${at}`)
    return Number(size) * 1024 > limit && isRemoved
  })

const main = Effect.forEach(Object.entries(hoards), ([title, script], index) =>
  Effect.all({
    title: Effect.succeed(title),
    reason: stopReason(script, index),
    isPlain: isPlainSufficient(script)
  })
)

const world = LocalSandbox.layer({ directory, limits: { disk: limit } })
process.stdout.write(JSON.stringify(await Effect.runPromise(Effect.scoped(Effect.provide(main, world)))))
process.exit(0)
