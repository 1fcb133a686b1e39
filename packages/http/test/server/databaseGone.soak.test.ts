/** A server whose database becomes unavailable during its start. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { once } from "node:events"
import { wayTo } from "../../../adapters/test/breakableConnections.ts"
import * as EmbeddedPostgres from "../../../adapters/test/embeddedPostgres.ts"
import { dataDirectory, killed, listening, started } from "./serverProcess.ts"

it.live("a server whose database becomes unavailable during its start prints one sentence and exits", () =>
  Effect.gen(function* () {
    const database = yield* Effect.acquireRelease(
      Effect.promise(() => EmbeddedPostgres.start()),
      ({ stop }) => Effect.promise(stop)
    )
    const url = new URL(`${database.url}/postgres`)
    const { endAt, port } = yield* wayTo(Number(url.port))
    url.port = String(port)
    const environment = {
      CASTELLAN_DATA_DIR: yield* dataDirectory,
      DATABASE_URL: url.href,
      CASTELLAN_LOG: "json"
    }
    yield* killed(yield* listening(environment))
    endAt(/select .*"platform_admin"/s)
    const { child, said } = yield* started(environment)
    yield* Effect.promise(() => once(child, "exit"))
    const lines = said().trim().split("\n")
    const sentences = lines.filter((line) => !line.startsWith("{"))
    assert.deepStrictEqual(
      [child.exitCode, sentences],
      [1, ["Castellan can't start. The database became unavailable while the server started."]]
    )
  }).pipe(Effect.scoped)
)
