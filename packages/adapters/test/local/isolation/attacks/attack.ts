/**
 * Makes every attack as whoever runs this, in a data directory of its own: once against a sandbox as it is, and once with
 * the protection that the attack is to fail at switched off. Prints what came of each as JSON.
 */
import { attempt, isAlive, killProcess } from "../../../../src/local/process/Host.ts"
import type { Isolation } from "../../../../src/local/isolation/Isolation.ts"
import { fresh, layout as layoutOf } from "../../../../src/local/sandbox/Layout.ts"
import * as Namespaces from "../../../../src/local/isolation/Namespaces.ts"
import { open } from "../../../../src/local/isolation/Open.ts"
import { launch } from "../../../../src/local/isolation/scripts.ts"
import { type Ended, startUntil } from "../../../../src/local/process/Spawn.ts"
import { run } from "../../../../src/local/process/Spawner.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect, Schedule } from "effect"
import { readFileSync } from "node:fs"
import { mkdir, rm, writeFile } from "node:fs/promises"
import { type Attack, attacks } from "./attacks.ts"

const [directory = ""] = process.argv.slice(2)
const layout = layoutOf(directory)

/** Where an attack that runs before the sandbox is up leaves what it printed. */
const result = "/home/user/result"

/** Runs the attack with all capabilities, at the last moment before they are dropped. */
const beforeTheDrop = (script: string, attack: string) =>
  script.replace("exec setpriv --inh-caps", `{ ${attack}; } > ${result} 2> /dev/null\nexec setpriv --inh-caps`)

const soon = Schedule.spaced("10 millis")

const unhardened = (command: ReadonlyArray<string>, user: number | false) =>
  Effect.callback<Ended>((resume) => {
    startUntil({ command, cwd: "/", user }, "ended", (ended) => resume(Effect.succeed(ended)))
  })

/** What a script prints in a sandbox that is brought up for it. */
const printed = Effect.fnUntraced(function* (
  isolation: Isolation,
  { before, script }: Pick<Attack, "before" | "script">,
  without: Attack["without"] | undefined
) {
  const name = SandboxName.make(`attack-${fresh()}`)
  const files = layout.sandbox(name)
  yield* attempt("attack", () => mkdir(files.root, { mode: 0o711 }))
  const spec = { name, chain: [], status: "stopped", ...isolation.newUser() } as const
  const user = isolation.userOf(spec)
  yield* isolation.prepare(files, spec)
  const life = (script: string) =>
    Effect.gen(function* () {
      const start = fresh()
      yield* attempt("attack", async () => {
        await rm(files.init, { force: true })
        await writeFile(files.start, `${start}\n`)
        await writeFile(files.deadline, `${Math.ceil(Date.now() / 1000) + 120}\n`)
      })
      const init = yield* isolation.boot(files, spec, start)
      const entered = isolation.enter(files, init)
      const command = [...(without === "session" ? entered.slice(0, -1) : entered), "sh", "-c", script]
      const ended = without === "hardening" ? unhardened(command, user) : run("attack", command, { cwd: "/", user })
      const end = Effect.sync(() => killProcess(init)).pipe(
        Effect.andThen(
          Effect.repeat(
            Effect.sync(() => isAlive(init)),
            { while: (alive) => alive, schedule: soon }
          )
        )
      )
      return yield* Effect.ensuring(ended, end)
    })
  if (before !== undefined) yield* life(before)
  return (yield* life(script)).stdout
})

const attacked = Effect.fnUntraced(function* (attack: Attack, weakened: Attack["without"] | undefined) {
  const { script, withCapabilities } = attack
  const weaker = typeof weakened === "function" ? weakened(launch) : launch
  const launched = withCapabilities ? beforeTheDrop(weaker, script) : weaker
  const isolation = yield* Namespaces.make(layout, "none", launched)
  const inside = withCapabilities ? `cat ${result}` : script
  const said = yield* printed(isolation, { ...attack, script: inside }, weakened)
  return said.trim().endsWith("yes")
})

const main = Effect.gen(function* () {
  yield* open({ directory })
  const capabilities = BigInt(`0x${/^CapEff:\s*(\S+)/m.exec(readFileSync("/proc/self/status", "utf8"))![1]}`)
  const applicable = attacks.filter(
    ({ capability }) => capability === undefined || (capabilities >> BigInt(capability)) % 2n === 1n
  )
  return yield* Effect.forEach(applicable, (attack) =>
    Effect.all({
      title: Effect.succeed(attack.title),
      succeeded: attacked(attack, undefined),
      succeededWithout: attacked(attack, attack.without)
    })
  )
})

process.stdout.write(JSON.stringify(await Effect.runPromise(Effect.scoped(main))))
process.exit(0)
