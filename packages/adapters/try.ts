import * as Local from "./src/local/LocalSandbox.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { Duration, Effect, Option, Stream } from "effect"
const cmd = (id: string, command: string, ...args: string[]) => ({ id: CommandId.make(id), command, args, cwd: null, env: {}, timeout: Duration.minutes(1) })
const text = (s: any) => Stream.runFold(s, () => "", (a: string, o: any) => a + new TextDecoder().decode(o.bytes))
const main = Effect.gen(function* () {
  const p = yield* SandboxProvider
  let t = performance.now()
  const lap = (what: string) => { console.log(what, (performance.now() - t).toFixed(1)); t = performance.now() }
  const name = SandboxName.make("s" + Date.now())
  console.log(yield* p.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })); lap("create")
  yield* p.start(name, cmd("c1", "node", "-v")); lap("start")
  console.log(yield* p.wait(name, CommandId.make("c1"))); lap("wait")
  console.log(yield* text(p.output(name, CommandId.make("c1"), OutputPosition.start))); lap("output")
  yield* p.start(name, cmd("c2", "sh", "-c", "id; ls -la / ~; env; cat /proc/self/mounts | wc -l; echo err >&2; echo x > /dev/stderr; ls -la /proc/self/fd; exit 3"))
  console.log(yield* p.wait(name, CommandId.make("c2")))
  console.log(yield* text(p.output(name, CommandId.make("c2"), OutputPosition.start)))
  for (let i = 0; i < 20; i++) {
    const n = SandboxName.make(`${name}-${i}`)
    const t0 = performance.now()
    yield* p.create({ name: n, from: Option.none(), lifetime: Duration.minutes(5) })
    const t1 = performance.now()
    yield* p.start(n, cmd("c", "node", "-v"))
    const t2 = performance.now()
    yield* Stream.runHead(p.output(n, CommandId.make("c"), OutputPosition.start))
    const t3 = performance.now()
    console.log((t1 - t0).toFixed(1), (t2 - t1).toFixed(1), (t3 - t2).toFixed(1), "total", (t3 - t0).toFixed(1))
    yield* p.remove(n)
  }
  t = performance.now()
  yield* Effect.forEach(Array.from({ length: 100 }, (_, i) => SandboxName.make(`${name}-b${i}`)), (n) => Effect.gen(function* () {
    yield* p.create({ name: n, from: Option.none(), lifetime: Duration.minutes(5) })
    yield* p.start(n, cmd("c", "node", "-v"))
    yield* Stream.runHead(p.output(n, CommandId.make("c"), OutputPosition.start))
  }), { concurrency: "unbounded" }); lap("burst 100")
  yield* Effect.forEach(Array.from({ length: 100 }, (_, i) => SandboxName.make(`${name}-b${i}`)), (n) => p.remove(n), { concurrency: 10 }); lap("remove 100")
  yield* p.remove(name)
}).pipe(Effect.provide(Local.layer({ directory: process.argv[2] ?? "/tmp/localtest" })), Effect.scoped)
Effect.runPromise(main as any).catch((e) => { console.error(e); process.exit(1) })
