/** The server: the adapters that the environment asks for, put together. */
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
import { Cause, Console, Duration, Effect, Layer, Option, Redacted } from "effect"
import { HttpMiddleware, HttpServer } from "effect/http"
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
import { logs, InvalidConfig, settings } from "./ServerConfig.ts"
import * as Shutdown from "./Shutdown.ts"
import * as Telemetry from "./Telemetry.ts"
import { welcome } from "./Welcome.ts"

const ending = Shutdown.make()

const isolations = {
  namespaces: "local, isolated by Linux namespaces",
  vm: "virtual machines at Vercel",
  none: "local, as plain processes: NOT isolated from this host"
}

/** Only the adapter that is used is loaded: the other's SDK would cost every start. */
const repoHost = (where: "github" | "local", dataDirectory: string) =>
  Effect.promise(async (): Promise<Layer.Layer<RepoHost, GitHubUnavailable | GitMissing | LocalReposUnavailable>> =>
    where === "github"
      ? (await import("@castellan/adapters/github/GitHubRepos.ts")).layerConfig
      : (await import("@castellan/adapters/git-local/LocalRepos.ts")).layerConfig({
          directory: join(dataDirectory, "repositories")
        })
  )

/** The same: what makes sandboxes elsewhere needs nothing of this host, and the reverse. */
const sandboxProvider = (where: "local" | "vercel", dataDirectory: string) =>
  Effect.promise(async (): Promise<Layer.Layer<SandboxProvider, LocalUnavailable | VercelUnavailable>> =>
    where === "vercel"
      ? (await import("@castellan/adapters/vercel/VercelSandbox.ts")).layerConfig
      : (await import("@castellan/adapters/local/LocalSandbox.ts")).layerConfig({
          directory: join(dataDirectory, "local")
        })
  )

/** A database that goes away in the middle of a start ends it, as one does that was never there. */
const whileStarting = Effect.catchDefect((defect) =>
  defect instanceof DatabaseUnavailable
    ? Effect.fail(new Db.DatabaseNotReady({ message: "The database went away while this server started" }))
    : Effect.die(defect)
)

const serve = Effect.gen(function* () {
  const {
    access,
    adminKey,
    agent,
    appIdleSeconds,
    createsPerMinute,
    dataDirectory: given,
    host,
    keepStoppedHours,
    liveSandboxes,
    openStreams,
    port,
    previewUrl,
    provider,
    repoAccess,
    repositories,
    requestsPerMinute,
    sessionIdleSeconds,
    secret: configured,
    shutdownSeconds,
    tokens,
    waitSeconds
  } = yield* settings
  ending.within = Duration.seconds(shutdownSeconds)
  const dataDirectory = resolve(given)
  const secret = Option.isSome(configured)
    ? configured.value
    : yield* Effect.tryPromise({
        try: async () => Redacted.make(await Secret.inDirectory(dataDirectory)),
        catch: (cause) => new InvalidConfig({ message: `CASTELLAN_DATA_DIR ${dataDirectory} can't be used: ${cause}` })
      })

  const ports = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
    Layer.provideMerge(Db.layerConfig({ dataDirectory })),
    Layer.merge(yield* sandboxProvider(provider, dataDirectory)),
    Layer.merge(yield* repoHost(repositories, dataDirectory))
  )
  const options = {
    access,
    secret,
    agent,
    liveAtMost: liveSandboxes,
    keepStopped: Duration.hours(keepStoppedHours),
    sessionTimes: { idle: Duration.seconds(sessionIdleSeconds) },
    appTimes: { idle: Duration.seconds(appIdleSeconds) },
    repoAccess,
    ...(tokens === undefined ? {} : { tokens })
  }
  const services = yield* Layer.build(Castellan.layer(options).pipe(Layer.provideMerge(ports))).pipe(whileStarting)
  const { engine } = yield* Effect.provide(Db.Db, services)
  const parts = [
    ...(engine._tag === "PGlite" ? ["postgres/castellan.lock"] : []),
    ...(provider === "local" ? ["local/locks"] : []),
    ...(repositories === "local" ? ["repositories"] : [])
  ].map((part) => join(dataDirectory, part))
  // Where all is kept elsewhere, a directory that goes does no harm.
  const dataHealth = parts.length === 0 ? Effect.succeed(undefined) : yield* DataDirectory.watch(dataDirectory, parts)
  const app = yield* Effect.provide(
    Server.make({
      secret,
      limits: {
        requests: requestsPerMinute,
        creates: createsPerMinute,
        streams: Math.min(openStreams, Descriptors.streamsOfOne(Descriptors.limit())),
        wait: Duration.seconds(waitSeconds)
      },
      ...(previewUrl === undefined ? {} : { previews: previewUrl })
    }),
    services
  ).pipe(Effect.provideService(DataHealth, dataHealth))
  const previews = yield* Effect.provide(Preview.make({ base: previewUrl }), services)
  const listener = new PreviewServer(previews)
  const listening = HttpServer.serve(Effect.provide(app, services)).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => listener, { host, port, gracefulShutdownTimeout: "2 seconds" }))
  )
  const server = yield* Layer.build(listening).pipe(
    Effect.catchTag("ServeError", ({ cause }) => new InvalidConfig({ message: whyNotListening(host, port, cause) }))
  )
  const { address } = yield* Effect.provide(HttpServer.HttpServer, server)
  const first = yield* Effect.provide(
    Effect.flatMap(ApiKeys, (keys) => keys.ensurePlatformAdmin(adminKey)),
    services
  ).pipe(whileStarting)
  const { supports } = yield* Effect.provide(SandboxProvider, services)
  yield* Console.log(
    welcome({
      url: `http://${host.includes(":") ? `[${host}]` : host}:${"port" in address ? address.port : port}`,
      dataDirectory,
      database: engine._tag === "PGlite" ? "embedded, in the data directory" : "the one DATABASE_URL names",
      isolation: isolations[supports.isolation],
      key: Option.getOrUndefined(Option.map(first, (issued) => Redacted.value(issued.secret)))
    })
  )
  // What was compiled for this start is kept for the next, however this process ends.
  yield* Effect.sync(flushCompileCache)
  yield* Shutdown.served(ending, listener)
}).pipe(Effect.scoped, Effect.provideService(Shutdown.Shutdown, ending))

const whyNotListening = (host: string, port: number, cause: unknown): string => {
  const { code } = cause as { readonly code?: string }
  switch (code) {
    case "EADDRINUSE":
      return `PORT ${port} on ${host} is in use: stop what uses it, or set PORT to another`
    case "EACCES":
      return `PORT ${port} needs more rights than this user has: set PORT to 1024 or more`
    default:
      return `HOST ${host} can't be listened on (${code ?? "unknown reason"})`
  }
}

// What stands in the way of a start is said in one sentence; anything else is a fault of ours, with all there is to it.
const explained = Effect.gen(function* () {
  const { telemetry, ...options } = yield* logs
  const told = Layer.mergeAll(
    Logs.layer(options),
    telemetry === undefined ? Telemetry.none : Telemetry.layer(telemetry),
    Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)
  )
  yield* Effect.provide(serve, told)
}).pipe(
  Effect.catchTags({
    InvalidConfig: (refused) => sayAndFail(refused.message),
    DatabaseNotReady: (unavailable) => sayAndFail(unavailable.message),
    LocalUnavailable: (unavailable) => sayAndFail(unavailable.message),
    VercelUnavailable: (unavailable) => sayAndFail(unavailable.message),
    GitMissing: (missing) => sayAndFail(missing.message),
    LocalReposUnavailable: (unavailable) => sayAndFail(unavailable.message),
    GitHubUnavailable: (unavailable) => sayAndFail(unavailable.message)
  })
)

class NotStarted {
  readonly _tag = "NotStarted"
}

const sayAndFail = (message: string) =>
  Effect.andThen(Console.error(`Castellan can't start. ${message}.`), Effect.fail(new NotStarted()))

Process.runMain(ending)(explained, {
  disableErrorReporting: true,
  teardown: (exit, onExit) => {
    if (exit._tag === "Failure" && !Cause.hasInterruptsOnly(exit.cause)) {
      if (!(Cause.squash(exit.cause) instanceof NotStarted)) console.error(Cause.pretty(exit.cause))
      return onExit(1)
    }
    onExit(0)
  }
})
