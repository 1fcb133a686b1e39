/** Entry point of the server: reads the configuration, composes the adapters and serves until shutdown. */
import type { GitMissing } from "@castellan/adapters/git/Git.ts"
import type { LocalReposUnavailable } from "@castellan/adapters/git-local/LocalRepos.ts"
import type { GitHubUnavailable } from "@castellan/adapters/github/Options.ts"
import type { LocalUnavailable } from "@castellan/adapters/local/isolation/Isolation.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as DataDirectory from "@castellan/adapters/process/DataDirectory.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import type { VercelUnavailable } from "@castellan/adapters/vercel/Options.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import type { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Cause, Console, Context, Duration, Effect, Layer, Option, Redacted, type Scope } from "effect"
import { HttpMiddleware, HttpServer, type HttpServerRequest, type HttpServerResponse } from "effect/http"
import { flushCompileCache } from "node:module"
import { join, resolve } from "node:path"
import * as Castellan from "./Castellan.ts"
import { DataHealth } from "./DataHealth.ts"
import * as Descriptors from "./Descriptors.ts"
import * as Logs from "./Logs.ts"
import * as Preview from "../preview/Preview.ts"
import { PreviewServer } from "./PreviewServer.ts"
import * as Process from "./Process.ts"
import * as Secret from "./Secret.ts"
import * as Server from "./Server.ts"
import { observabilityConfig, type ServerConfig, serverConfig } from "./ServerConfig.ts"
import { InvalidConfig } from "./Setting.ts"
import * as Shutdown from "./Shutdown.ts"
import * as Telemetry from "./Telemetry.ts"
import { welcome } from "./Welcome.ts"

const shutdown = Shutdown.make()

const isolations = {
  namespaces: "local, isolated by Linux namespaces",
  vm: "virtual machines at Vercel",
  none: "local, as plain processes: NOT isolated from this host"
}

/** Loads only the adapter that is used: importing the other one's SDK would slow down every start. */
const repoHost = (where: "github" | "local", dataDirectory: string) =>
  Effect.promise(async (): Promise<Layer.Layer<RepoHost, GitHubUnavailable | GitMissing | LocalReposUnavailable>> =>
    where === "github"
      ? (await import("@castellan/adapters/github/GitHubRepos.ts")).layerConfig
      : (await import("@castellan/adapters/git-local/LocalRepos.ts")).layerConfig({
          directory: join(dataDirectory, "repositories")
        })
  )

/** Loads only the adapter that is used, as above. */
const sandboxProvider = (where: "local" | "vercel", dataDirectory: string) =>
  Effect.promise(async (): Promise<Layer.Layer<SandboxProvider, LocalUnavailable | VercelUnavailable>> =>
    where === "vercel"
      ? (await import("@castellan/adapters/vercel/VercelSandbox.ts")).layerConfig
      : (await import("@castellan/adapters/local/LocalSandbox.ts")).layerConfig({
          directory: join(dataDirectory, "local")
        })
  )

const adapters = Effect.fnUntraced(function* ({ provider, repositories }: ServerConfig, dataDirectory: string) {
  return Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
    Layer.provideMerge(Db.layerConfig({ dataDirectory })),
    Layer.merge(yield* sandboxProvider(provider, dataDirectory)),
    Layer.merge(yield* repoHost(repositories, dataDirectory))
  )
})

const castellanOptions = (config: ServerConfig, secret: Redacted.Redacted<Uint8Array>): Castellan.CastellanOptions => ({
  access: config.access,
  secret,
  agent: config.agent,
  maxLiveSandboxes: config.liveSandboxes,
  keepStopped: Duration.hours(config.keepStoppedHours),
  sessionTimes: { idle: Duration.seconds(config.sessionIdleSeconds) },
  appTimes: { idle: Duration.seconds(config.appIdleSeconds) },
  repoAccess: config.repoAccess,
  ...(config.tokens === undefined ? {} : { tokens: config.tokens })
})

const serverOptions = (config: ServerConfig, secret: Redacted.Redacted<Uint8Array>): Server.ServerOptions => ({
  secret,
  limits: {
    requests: config.requestsPerMinute,
    creates: config.createsPerMinute,
    streams: Math.min(config.openStreams, Descriptors.maxStreamsPerAccount(Descriptors.limit())),
    wait: Duration.seconds(config.waitSeconds)
  },
  ...(config.previewUrl === undefined ? {} : { previews: config.previewUrl })
})

/** If the database becomes unavailable during the start, the start fails, as if it had never been available. */
const failWithoutDatabase = Effect.catchDefect((defect) =>
  defect instanceof DatabaseUnavailable
    ? Effect.fail(new Db.DatabaseNotReady({ message: "The database became unavailable while the server started" }))
    : Effect.die(defect)
)

const loadSecret = ({ secret }: ServerConfig, dataDirectory: string) =>
  Option.isSome(secret)
    ? Effect.succeed(secret.value)
    : Effect.tryPromise({
        try: async () => Redacted.make(await Secret.inDirectory(dataDirectory)),
        catch: (cause) => new InvalidConfig({ message: `CASTELLAN_DATA_DIR ${dataDirectory} can't be used: ${cause}` })
      })

/** Watches the parts of the data directory that this configuration uses; losing an unused directory is harmless. */
const watchDataDirectory = (config: ServerConfig, dataDirectory: string, isDatabaseEmbedded: boolean) => {
  const parts = [
    ...(isDatabaseEmbedded ? ["postgres/castellan.lock"] : []),
    ...(config.provider === "local" ? ["local/locks"] : []),
    ...(config.repositories === "local" ? ["repositories"] : [])
  ].map((part) => join(dataDirectory, part))
  return parts.length === 0 ? Effect.succeed(DataHealth.defaultValue()) : DataDirectory.watch(dataDirectory, parts)
}

/** Serves the application and the previews; returns the listener and its URL. */
const listen = Effect.fnUntraced(function* <E>(
  { host, port, previewUrl }: ServerConfig,
  app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, HttpServerRequest.HttpServerRequest | Scope.Scope>
) {
  const listener = new PreviewServer(yield* Preview.make({ base: previewUrl }))
  const server = yield* Layer.build(
    HttpServer.serve(app).pipe(
      Layer.provideMerge(NodeHttpServer.layer(() => listener, { host, port, gracefulShutdownTimeout: "2 seconds" }))
    )
  ).pipe(
    Effect.catchTag("ServeError", ({ cause }) => new InvalidConfig({ message: whyNotListening(host, port, cause) }))
  )
  const { address } = yield* Effect.provide(HttpServer.HttpServer, server)
  const actualPort = "port" in address ? address.port : port
  return { listener, url: `http://${host.includes(":") ? `[${host}]` : host}:${actualPort}` }
})

const whyNotListening = (host: string, port: number, cause: unknown): string => {
  const { code } = cause as { readonly code?: string }
  switch (code) {
    case "EADDRINUSE":
      return `PORT ${port} on ${host} is in use: stop the process that uses it, or set PORT to another port`
    case "EACCES":
      return `PORT ${port} is not permitted for this user: set PORT to 1024 or more`
    default:
      return `HOST ${host} can't be listened on (${code ?? "unknown reason"})`
  }
}

const serve = Effect.gen(function* () {
  const config = yield* serverConfig
  shutdown.timeout = Duration.seconds(config.shutdownSeconds)
  const dataDirectory = resolve(config.dataDirectory)
  const secret = yield* loadSecret(config, dataDirectory)
  const ports = yield* adapters(config, dataDirectory)
  const services = yield* Layer.build(
    Castellan.layer(castellanOptions(config, secret)).pipe(Layer.provideMerge(ports))
  ).pipe(failWithoutDatabase)
  const isDatabaseEmbedded = Context.get(services, Db.Db).engine._tag === "PGlite"
  const dataHealth = yield* watchDataDirectory(config, dataDirectory, isDatabaseEmbedded)
  const app = yield* Server.make(serverOptions(config, secret)).pipe(
    Effect.provide(services),
    Effect.provideService(DataHealth, dataHealth)
  )
  const { listener, url } = yield* Effect.provide(listen(config, Effect.provide(app, services)), services)
  const firstKey = yield* Context.get(services, ApiKeys).ensurePlatformAdmin(config.adminKey).pipe(failWithoutDatabase)
  yield* Console.log(
    welcome({
      url,
      dataDirectory,
      database: isDatabaseEmbedded ? "embedded, in the data directory" : "external, from DATABASE_URL",
      isolation: isolations[Context.get(services, SandboxProvider).supports.isolation],
      key: Option.getOrUndefined(Option.map(firstKey, (issued) => Redacted.value(issued.secret)))
    })
  )
  // The next start uses the code compiled for this one, even if this process is killed.
  yield* Effect.sync(flushCompileCache)
  yield* Shutdown.serveUntilShutdown(shutdown, listener)
}).pipe(Effect.scoped, Effect.provideService(Shutdown.Shutdown, shutdown))

class StartFailed {
  readonly _tag = "StartFailed"
}

const explain = ({ message }: { readonly message: string }) =>
  Effect.andThen(Console.error(`Castellan can't start. ${message}.`), Effect.fail(new StartFailed()))

/** Explains an expected failure to start in one sentence; anything else is a bug and ends with its full cause. */
const main = Effect.gen(function* () {
  const { telemetry, ...logging } = yield* observabilityConfig
  const observability = Layer.mergeAll(
    Logs.layer(logging),
    telemetry === undefined ? Telemetry.none : Telemetry.layer(telemetry),
    Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)
  )
  yield* Effect.provide(serve, observability)
}).pipe(
  Effect.catchTags({
    InvalidConfig: explain,
    DatabaseNotReady: explain,
    LocalUnavailable: explain,
    VercelUnavailable: explain,
    GitMissing: explain,
    LocalReposUnavailable: explain,
    GitHubUnavailable: explain
  })
)

Process.runMain(shutdown)(main, {
  disableErrorReporting: true,
  teardown: (exit, onExit) => {
    if (exit._tag === "Failure" && !Cause.hasInterruptsOnly(exit.cause)) {
      if (!(Cause.squash(exit.cause) instanceof StartFailed)) console.error(Cause.pretty(exit.cause))
      return onExit(1)
    }
    onExit(0)
  }
})
