/** Kills the server process at random moments during setups. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { killed, listening } from "../server/serverProcess.ts"
import { type Json, clientOf, until, ended, places, key } from "./setupPlaces.ts"

describe("Setups whose server is killed at random moments", () => {
  it.live(
    "complete on the next server with one repository and one snapshot each, and leave no sandbox or file behind",
    () =>
      Effect.gen(function* () {
        const place = yield* places
        const start = Effect.map(listening(place.environment), (server) => ({
          server,
          client: clientOf({ url: server.url, key })
        }))
        let { client, server } = yield* start
        const others = yield* Effect.forEach([1, 2], (n) => client.ask("POST", "/api/accounts", { name: `other ${n}` }))
        // Several run at once, so that each kill interrupts them in different steps.
        const queries = ["", ...others.map(({ account }) => `&account_id=${account.id}`)]
        const bodies = [{}, ...others.map(({ account }) => ({ account_id: account.id }))]
        const begun = yield* Effect.forEach(bodies, (body) => client.ask("POST", "/api/sandboxes/setup", body))
        const runIds: ReadonlyArray<string> = begun.map(({ runId }) => runId)
        const pushed = () => place.repositories().filter((name) => place.hasMain(name)).length
        /** The moments to kill the server at, in order. A moment is due once it or a later one has come. */
        const moments: ReadonlyArray<(run: Json) => boolean> = [
          (run) => run.status !== "QUEUED",
          () => place.workspaces().length > 0,
          () => pushed() > 0,
          () => place.snapshots().length > 0,
          (run) => run.metadata.currentStep === "Stopping the sandbox"
        ]
        for (const index of moments.keys()) {
          yield* until(
            Effect.map(client.run(runIds[0]!), (run) =>
              run.status === "COMPLETED" || moments.slice(index).some((has) => has(run)) ? true : undefined
            )
          )
          yield* killed(server)
          ;({ client, server } = yield* start)
        }
        const saved: Array<string> = []
        for (const [index, runId] of runIds.entries()) {
          const run = yield* ended(client, runId, queries[index])
          assert.strictEqual(run.status, "COMPLETED", JSON.stringify(run))
          const list = yield* client.ask("GET", `/api/sandboxes?limit=10${queries[index]}`)
          assert.deepStrictEqual(run.output, { githubRepo: list.github_repo, snapshotId: list.snapshot_id })
          assert.deepStrictEqual(
            list.filetree.map(({ path }: Json) => path),
            ["README.md"]
          )
          assert.deepStrictEqual(
            list.sandboxes.map(({ sandboxStatus }: Json) => sandboxStatus),
            ["stopped"]
          )
          saved.push(`${list.snapshot_id}.json`)
        }
        assert.strictEqual(place.repositories().length, 3)
        assert.deepStrictEqual(place.snapshots().toSorted(), saved.toSorted())
        assert.deepStrictEqual([place.awake(), place.workspaces()], [[], []])

        // Also kill the server while an account's resources are being deleted.
        for (let n = 0; n < 3; n++) {
          yield* client.ask("POST", "/api/sandboxes", { command: "sleep", args: ["600"] })
        }
        for (const has of [() => place.sandboxes().length < 6, () => place.repositories().length < 3]) {
          const deleting = fetch(`${server.url}/api/sandboxes`, { method: "DELETE", headers: { "x-api-key": key } })
          deleting.catch(() => undefined)
          yield* until(Effect.sync(() => (has() ? true : undefined)))
          yield* killed(server)
          ;({ client, server } = yield* start)
        }
        assert.strictEqual((yield* client.ask("DELETE", "/api/sandboxes")).status, "success")
        const left = [place.sandboxes(), place.snapshots(), place.repositories()]
        assert.deepStrictEqual(
          left.map(({ length }) => length),
          [2, 2, 2]
        )
        assert.deepStrictEqual(place.awake(), [])
        const after = yield* client.ask("GET", "/api/sandboxes")
        assert.deepStrictEqual([after.snapshot_id, after.github_repo, after.filetree], [null, null, null])
        assert.deepStrictEqual(
          new Set(after.sandboxes.map(({ sandboxStatus }: Json) => sandboxStatus)),
          new Set(["stopped"])
        )
      }).pipe(Effect.scoped),
    180_000
  )
})
