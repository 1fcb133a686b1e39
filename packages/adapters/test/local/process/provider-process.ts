/** Runs the local provider in its own process: executes the requests on standard input, one a line, until it is killed. */
import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import type { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { Cause, Duration, Effect, Layer, Option, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { createInterface } from "node:readline"
import type { ObservedSandbox, ProviderRequest, ProviderResponse } from "./providerProcesses.ts"

const toObserved = ({ incarnation, reason, status }: Sandbox): ObservedSandbox => ({ incarnation, reason, status })

const main = Effect.gen(function* () {
  const provider = yield* SandboxProvider
  const sandboxes = yield* Sandboxes

  const execute = (request: ProviderRequest): Effect.Effect<unknown, { readonly _tag: string }> => {
    const { name } = request
    switch (request.do) {
      case "create":
        return Effect.map(
          provider.create({
            name,
            from: Option.fromUndefinedOr(request.from),
            lifetime: Duration.millis(request.lifetime),
            ports: request.ports ?? [],
            registry: request.registry ?? false
          }),
          toObserved
        )
      case "read":
        return Effect.scoped(
          Effect.flatMap(provider.connect(name, request.port), ({ incoming }) =>
            incoming.pipe(Stream.decodeText(), Stream.mkString)
          )
        )
      case "resume":
        return Effect.map(provider.resume(name, Duration.millis(request.lifetime)), toObserved)
      case "extend":
        return Effect.map(provider.extend(name, Duration.millis(request.lifetime)), toObserved)
      case "find":
        return Effect.map(provider.find(name), (found) => Option.getOrNull(Option.map(found, toObserved)))
      case "stop":
        return provider.stop(name, request.only === undefined ? undefined : { incarnation: request.only })
      case "remove":
        return provider.remove(name)
      case "snapshot":
        return Effect.map(provider.snapshot(name), ({ id }) => id)
      case "snapshots":
        return Effect.map(provider.snapshots(name), (all) => all.map(({ id }) => id))
      case "forget":
        return provider.removeSnapshot(request.from)
      case "start":
        return provider.start(name, {
          id: request.id,
          command: "sh",
          args: ["-c", request.script],
          cwd: null,
          env: {},
          timeout: Duration.millis(request.timeout)
        })
      case "wait":
        return Effect.map(provider.wait(name, request.id), ({ end }) => end?.by)
      case "sh":
        return Effect.map(
          sandboxes.run(
            name,
            new Command({ command: "sh", args: ["-c", request.script], cwd: null, env: {} }),
            Duration.seconds(20)
          ),
          ({ end, stdout }) => ({ exitCode: end.exitCode, stdout })
        )
    }
  }

  const respond = (response: ProviderResponse) => process.stdout.write(`${JSON.stringify(response)}\n`)
  const handle = ({ id, request }: { readonly id: number; readonly request: ProviderRequest }) =>
    Effect.matchCause(execute(request), {
      onSuccess: (value) => respond({ id, value }),
      onFailure: (cause) => {
        const [first] = cause.reasons
        respond({ id, failed: first?._tag === "Fail" ? first.error._tag : "Die", reason: Cause.pretty(cause) })
      }
    })

  createInterface({ input: process.stdin }).on("line", (line) => Effect.runFork(handle(JSON.parse(line))))
  respond({ id: -1, value: "ready" })
  return yield* Effect.never
})

const [directory = "", registry = ""] = process.argv.slice(2)

const world = Sandboxes.layer.pipe(
  Layer.provideMerge(LocalSandbox.layer({ directory, ...(registry === "" ? {} : { registry }) })),
  Layer.provide(SecureRandom.layerWebCrypto)
)

await Effect.runPromise(Effect.scoped(Effect.provide(main, world)))
