/**
 * Runs every attack as the current user, in its own data directory: once against a sandbox as it is, and once with the
 * protection that the attack tests switched off. Prints the outcomes as JSON.
 */
import { openProvider } from "../../../../src/local/Bootstrap.ts"
import type { Isolation } from "../../../../src/local/isolation/Isolation.ts"
import { launch } from "../../../../src/local/isolation/launchScript.ts"
import * as Namespaces from "../../../../src/local/isolation/Namespaces.ts"
import { withBareSandbox } from "../../../../src/local/isolation/Probe.ts"
import { isAlive, killProcess, type ProcessIdentity } from "../../../../src/local/process/processes.ts"
import { type ProgramResult, spawnUntil } from "../../../../src/local/process/Spawn.ts"
import { run } from "../../../../src/local/process/Spawner.ts"
import { randomId } from "../../../../src/local/storage/files.ts"
import { makeLayout } from "../../../../src/local/storage/Layout.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Duration, Effect, Schedule } from "effect"
import { readFileSync } from "node:fs"
import { type Attack, attacks } from "./attacks.ts"

const [directory = ""] = process.argv.slice(2)
const layout = makeLayout(directory)

/** Where an attack that runs before the sandbox has started writes its output. */
const resultFile = "/home/user/result"

/** Runs the attack with all capabilities, immediately before they are dropped. */
const withAllCapabilities = (script: string, attack: string) =>
  script.replace("exec setpriv --inh-caps", `{ ${attack}; } > ${resultFile} 2> /dev/null\nexec setpriv --inh-caps`)

const runUnhardened = (command: ReadonlyArray<string>, user: number | false) =>
  Effect.callback<ProgramResult>((resume) => {
    spawnUntil({ command, cwd: "/", user }, "ended", (result) => resume(Effect.succeed(result)))
  })

/** Kills a sandbox and waits for its end. */
const endOf = (init: ProcessIdentity) =>
  Effect.andThen(
    Effect.sync(() => killProcess(init)),
    Effect.repeat(
      Effect.sync(() => isAlive(init)),
      { while: (alive) => alive, schedule: Schedule.spaced("10 millis") }
    )
  )

/** The output of a script in a new sandbox. */
const outputOf = Effect.fnUntraced(function* (
  isolation: Isolation,
  { before, script }: Pick<Attack, "before" | "script">,
  without: Attack["without"] | undefined
) {
  const name = SandboxName.make(`attack-${randomId()}`)
  const files = layout.sandbox(name)
  const record = { name, chain: [], status: "stopped", ...isolation.allocateUser() } as const
  const user = isolation.userOf(record)
  const runInSandbox = (script: string) =>
    withBareSandbox(isolation, files, record, { lifetime: Duration.minutes(2) }, (init) => {
      const enter = isolation.enterCommand(files, init)
      const command = [...(without === "session" ? enter.slice(0, -1) : enter), "sh", "-c", script]
      const result = without === "hardening" ? runUnhardened(command, user) : run("attack", command, { cwd: "/", user })
      return Effect.ensuring(result, endOf(init))
    })
  if (before !== undefined) yield* runInSandbox(before)
  return (yield* runInSandbox(script)).stdout
})

const succeeds = Effect.fnUntraced(function* (attack: Attack, without: Attack["without"] | undefined) {
  const { script, withCapabilities } = attack
  const weakened = typeof without === "function" ? without(launch) : launch
  const launchScript = withCapabilities ? withAllCapabilities(weakened, script) : weakened
  const isolation = yield* Namespaces.make(layout, launchScript)
  const inside = withCapabilities ? `cat ${resultFile}` : script
  const output = yield* outputOf(isolation, { ...attack, script: inside }, without)
  return output.trim().endsWith("yes")
})

const main = Effect.gen(function* () {
  yield* openProvider({ directory })
  const capabilities = BigInt(`0x${/^CapEff:\s*(\S+)/m.exec(readFileSync("/proc/self/status", "utf8"))![1]}`)
  const applicable = attacks.filter(
    ({ capability }) => capability === undefined || (capabilities >> BigInt(capability)) % 2n === 1n
  )
  return yield* Effect.forEach(applicable, (attack) =>
    Effect.all({
      title: Effect.succeed(attack.title),
      succeeded: succeeds(attack, undefined),
      succeededWithout: succeeds(attack, attack.without)
    })
  )
})

process.stdout.write(JSON.stringify(await Effect.runPromise(Effect.scoped(main))))
process.exit(0)
