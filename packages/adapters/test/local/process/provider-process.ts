/** The provider over a directory that other processes have open, too: does what it is told, line by line, until killed. */
import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import type { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { Cause, Duration, Effect, Layer, Option, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { createInterface } from "node:readline"
import type { Answer, Order, Seen } from "./providerProcesses.ts"

const toSeen = ({ incarnation, reason, status }: Sandbox): Seen => ({ incarnation, reason, status })

const main = Effect.gen(function* () {
  const provider = yield* SandboxProvider
  const sandboxes = yield* Sandboxes

  const done = (order: Order): Effect.Effect<unknown, { readonly _tag: string }> => {
    const { name } = order
    switch (order.do) {
      case "create":
        return Effect.map(
          provider.create({
            name,
            from: Option.fromUndefinedOr(order.from),
            lifetime: Duration.millis(order.lifetime),
            ports: order.ports ?? [],
            registry: order.registry ?? false
          }),
          toSeen
        )
      case "read":
        return Effect.scoped(
          Effect.flatMap(provider.connect(name, order.port), ({ incoming }) =>
            incoming.pipe(Stream.decodeText(), Stream.mkString)
          )
        )
      case "resume":
        return Effect.map(provider.resume(name, Duration.millis(order.lifetime)), toSeen)
      case "extend":
        return Effect.map(provider.extend(name, Duration.millis(order.lifetime)), toSeen)
      case "find":
        return Effect.map(provider.find(name), (found) => Option.getOrNull(Option.map(found, toSeen)))
      case "stop":
        return provider.stop(name, order.only === undefined ? undefined : { incarnation: order.only })
      case "remove":
        return provider.remove(name)
      case "snapshot":
        return Effect.map(provider.snapshot(name), ({ id }) => id)
      case "snapshots":
        return Effect.map(provider.snapshots(name), (all) => all.map(({ id }) => id))
      case "forget":
        return provider.removeSnapshot(order.from)
      case "start":
        return provider.start(name, {
          id: order.id,
          command: "sh",
          args: ["-c", order.script],
          cwd: null,
          env: {},
          timeout: Duration.millis(order.timeout)
        })
      case "wait":
        return Effect.map(provider.wait(name, order.id), ({ end }) => end?.by)
      case "sh":
        return Effect.map(
          sandboxes.run(
            name,
            new Command({ command: "sh", args: ["-c", order.script], cwd: null, env: {} }),
            Duration.seconds(20)
          ),
          ({ end, stdout }) => ({ exitCode: end.exitCode, stdout })
        )
    }
  }

  const say = (answer: Answer) => process.stdout.write(`${JSON.stringify(answer)}\n`)
  const answered = ({ id, order }: { readonly id: number; readonly order: Order }) =>
    Effect.matchCause(done(order), {
      onSuccess: (gave) => say({ id, gave }),
      onFailure: (cause) => {
        const [reason] = cause.reasons
        say({ id, failed: reason?._tag === "Fail" ? reason.error._tag : "Die", why: Cause.pretty(cause) })
      }
    })

  createInterface({ input: process.stdin }).on("line", (line) => Effect.runFork(answered(JSON.parse(line))))
  say({ id: -1, gave: "ready" })
  return yield* Effect.never
})

const [directory = "", registry = ""] = process.argv.slice(2)

const world = Sandboxes.layer.pipe(
  Layer.provideMerge(LocalSandbox.layer({ directory, ...(registry === "" ? {} : { registry }) })),
  Layer.provide(SecureRandom.layerWebCrypto)
)

await Effect.runPromise(Effect.scoped(Effect.provide(main, world)))
