import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import type { LocalOptions } from "../../../src/local/Options.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it, layer } from "@effect/vitest"
import { ConfigProvider, Context, Duration, Effect, Layer, Option } from "effect"
import { mkdir, readdir, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import { createSandbox, withSandboxes, stdoutOf, sh } from "../sandboxes.ts"
import { greeting, install, packageName, packageRegistry } from "../network/packageRegistry.ts"
import { providerProcess } from "../process/providerProcesses.ts"
import { localProvider, temporaryDirectory } from "../temporary.ts"

class TestRegistry extends Context.Service<TestRegistry, Effect.Success<typeof packageRegistry>>()("TestRegistry") {}

const registry = Layer.effect(TestRegistry, packageRegistry)

/** The local provider with the test registry. */
const withRegistry = (options: Partial<LocalOptions> = {}) =>
  withSandboxes(Layer.unwrap(Effect.map(TestRegistry, ({ url }) => localProvider({ ...options, registry: url })))).pipe(
    Layer.provideMerge(registry)
  )

/** A script that sends a request to the proxy and prints the first line of the response. */
const proxyRequest = (head: string) =>
  `node -e 'const proxy = new URL(process.env.HTTP_PROXY)
require("net").connect(proxy.port, proxy.hostname, function () { this.write(process.argv[1]) })
  .once("data", (answer) => { console.log(String(answer).split("\\r\\n")[0]); process.exit() })
  .on("error", (error) => console.log(error.code))
  .on("close", () => console.log("closed"))' '${head}'`

const connectTo = (authority: string) => `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`

/** A server on the host that counts its connections. */
const hostServer = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly reached: () => number; readonly close: () => void }>((resume) => {
    let reached = 0
    const server = createServer((socket) => {
      reached++
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    })
    server.listen(0, "127.0.0.1", () => {
      const address = server.address() as { readonly port: number }
      resume(Effect.succeed({ port: address.port, reached: () => reached, close: () => server.close() }))
    })
  }),
  ({ close }) => Effect.sync(close)
)

layer(withRegistry(), { excludeTestServices: true, timeout: "60 seconds" })(
  "A local sandbox with access to the package registry",
  (it) => {
    it.effect("installs packages from the registry in its own network", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ registry: true })
        assert.strictEqual(yield* stdoutOf(name, install), greeting)
        const { requested } = yield* TestRegistry
        assert.include(requested, `/${packageName}`)
        assert.strictEqual(
          yield* stdoutOf(name, "head -1 /etc/resolv.conf; tail -n +3 /proc/net/dev | cut -d: -f1"),
          "lo"
        )
      }).pipe(Effect.scoped)
    )

    it.effect("installs packages after it was resumed", () =>
      Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const name = yield* createSandbox({ registry: true })
        yield* stdoutOf(name, "true")
        yield* provider.stop(name)
        yield* provider.resume(name, Duration.minutes(5))
        assert.strictEqual(yield* stdoutOf(name, install), greeting)
      }).pipe(Effect.scoped)
    )

    it.effect("reaches neither other hosts nor servers on this host", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ registry: true })
        const { port, reached } = yield* hostServer
        const { url } = yield* TestRegistry
        const own = new URL(url)
        const refused = [
          connectTo("example.com:443"),
          connectTo(`127.0.0.1:${port}`),
          connectTo(`localhost:${own.port}`),
          connectTo("169.254.169.254:80"),
          connectTo(own.port),
          connectTo(own.host),
          connectTo(`${own.host}@127.0.0.1:${port}`),
          `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: ${own.host}\r\n\r\n`,
          `GET http://${own.host}@127.0.0.1:${port}/ HTTP/1.1\r\nHost: ${own.host}\r\n\r\n`,
          `GET https://${own.host}/ HTTP/1.1\r\nHost: ${own.host}\r\n\r\n`,
          `GET / HTTP/1.1\r\nHost: ${own.host}\r\n\r\n`
        ]
        for (const head of refused) {
          assert.strictEqual(yield* stdoutOf(name, proxyRequest(head)), "HTTP/1.1 403 Forbidden", head)
        }
        const dial = `require("net").connect(${port}, "127.0.0.1").on("error", (error) => console.log(error.code))`
        assert.strictEqual(yield* stdoutOf(name, `node -e '${dial}'`), "ECONNREFUSED")
        assert.strictEqual(reached(), 0)
        const plain = `GET http://${own.host}/none HTTP/1.1\r\nHost: ${own.host}\r\n\r\n`
        assert.strictEqual(yield* stdoutOf(name, proxyRequest(plain)), "HTTP/1.1 404 Not Found")
      }).pipe(Effect.scoped)
    )

    it.effect("gets a 431 for a request head that is too long", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ registry: true })
        const head = `GET / HTTP/1.1\r\nX: ${"x".repeat(20_000)}\r\n\r\n`
        assert.match(yield* stdoutOf(name, proxyRequest(head)), /^HTTP\/1.1 431 /)
      }).pipe(Effect.scoped)
    )

    it.effect("configures npm by environment variables that a command may override", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ registry: true })
        const { url } = yield* TestRegistry
        assert.strictEqual(yield* stdoutOf(name, "npm config get registry"), url)
        assert.strictEqual(yield* stdoutOf(name, "echo $NODE_USE_SYSTEM_CA $npm_config_update_notifier"), "1 false")
        // The registry is at 127.0.0.1 in this test, so that name is reached through the proxy.
        assert.strictEqual(yield* stdoutOf(name, "echo $NO_PROXY"), "localhost,::1")
        const { stdout } = yield* sh(name, "npm_config_registry=http://other.test/ npm config get registry")
        assert.strictEqual(stdout.trim(), "http://other.test/")
      }).pipe(Effect.scoped)
    )

    it.effect("can't change npm, and has it even if a snapshot removed its directories", () =>
      Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const plain = yield* createSandbox()
        yield* stdoutOf(plain, "rm -rf /opt; mv /opt /away; mv /opt/castellan /opt/away; rmdir /opt/castellan/npm")
        const { id } = yield* provider.snapshot(plain)
        const name = yield* createSandbox({ registry: true, from: Option.some(id) })
        assert.match(yield* stdoutOf(name, "npm --version"), /^\d+\.\d+\.\d+$/)
        const change = "touch /opt/castellan/npm/bin/npm || rm -rf /opt/castellan/npm/bin/npm"
        assert.notStrictEqual((yield* sh(name, `(${change}) 2> /dev/null`)).end.exitCode, 0)
      }).pipe(Effect.scoped)
    )
  }
)

layer(withRegistry(), { excludeTestServices: true, timeout: "60 seconds" })(
  "A local sandbox without access to the package registry",
  (it) => {
    it.effect("has no npm, no registry variables and no proxy", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox()
        assert.strictEqual(yield* stdoutOf(name, "ls -A /opt/castellan/npm; env | grep -i -e npm -e proxy -e _CA="), "")
        const listening = "tail -n +2 /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A '"
        assert.strictEqual(yield* stdoutOf(name, listening), "0")
      }).pipe(Effect.scoped)
    )
  }
)

for (const options of [{ isolation: "none" }] as const) {
  layer(withRegistry(options), { excludeTestServices: true, timeout: "60 seconds" })(
    `A local sandbox on the host's network (${JSON.stringify(options)})`,
    (it) => {
      it.effect("installs packages from the registry without a proxy", () =>
        Effect.gen(function* () {
          const name = yield* createSandbox({ registry: true })
          assert.strictEqual(yield* stdoutOf(name, "env | grep -i proxy"), "")
          assert.strictEqual(yield* stdoutOf(name, install), greeting)
        }).pipe(Effect.scoped)
      )
    }
  )
}

describe("The npm layer of the data directory", () => {
  it.live("is installed completely when the first sandbox needs it, and replaces incomplete copies", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const { url } = yield* packageRegistry
      const runtime = join(directory, "runtime")
      const incomplete = join(runtime, "next-npm-left", "package")
      yield* Effect.promise(async () => {
        await mkdir(incomplete, { recursive: true })
        await writeFile(join(incomplete, "half"), "")
      })
      const processes = yield* Effect.all([providerProcess(directory, url), providerProcess(directory, url)], {
        concurrency: 2
      })
      const npmEntries = Effect.promise(async () => (await readdir(runtime)).filter((name) => name.includes("npm")))
      assert.deepStrictEqual(yield* npmEntries, ["next-npm-left"])
      const names = ["one", "two"].map((which) => SandboxName.make(`npm-${which}-${process.pid}`))
      const installs = processes.map(({ request }, index) =>
        Effect.gen(function* () {
          const name = names[index]!
          yield* request({ do: "create", name, lifetime: 60_000, registry: true })
          yield* Effect.addFinalizer(() => Effect.orDie(request({ do: "remove", name })))
          return yield* request<{ stdout: string }>({ do: "sh", name, script: install })
        })
      )
      for (const { stdout } of yield* Effect.all(installs, { concurrency: 2 }))
        assert.strictEqual(stdout.trim(), greeting)
      const [npm, ...others] = yield* npmEntries
      assert.deepStrictEqual(others, [])
      assert.match(npm!, /^layer-npm-\d+\.\d+\.\d+$/)
    }).pipe(Effect.scoped)
  )
})

describe("Several servers that share a sandbox with access to the registry", () => {
  it.live("give the sandbox access to the registry after one of them is killed", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const { url } = yield* packageRegistry
      const [first, second] = yield* Effect.all([providerProcess(directory, url), providerProcess(directory, url)], {
        concurrency: 2
      })
      const name = SandboxName.make(`registry-${process.pid}`)
      yield* Effect.addFinalizer(() => second.tryRequest({ do: "remove", name }))
      yield* first.request({ do: "create", name, lifetime: 5 * 60_000, registry: true })
      const installs = (process: typeof first) =>
        Effect.map(
          process.request<{ stdout: string }>({ do: "sh", name, script: `rm -rf app ~/.npm; ${install}` }),
          (it) => it.stdout.trim()
        )
      assert.strictEqual(yield* installs(first), greeting)
      assert.strictEqual(yield* installs(second), greeting)
      yield* first.kill
      assert.strictEqual(yield* installs(second), greeting)
    }).pipe(Effect.scoped)
  )
})

describe("CASTELLAN_NPM_REGISTRY", () => {
  it.effect("must be an http or https URL without a user or password", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      for (const given of ["registry.test", "ftp://registry.test/", "https://user:secret@registry.test/"]) {
        const environment = ConfigProvider.fromUnknown({ CASTELLAN_NPM_REGISTRY: given })
        const { message } = yield* Effect.flip(
          Layer.build(LocalSandbox.layerConfig({ directory })).pipe(
            Effect.provideService(ConfigProvider.ConfigProvider, environment)
          )
        )
        assert.strictEqual(message, "CASTELLAN_NPM_REGISTRY must be an http or https URL without a user or password")
      }
    }).pipe(Effect.scoped)
  )
})
