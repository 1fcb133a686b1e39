import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { operations } from "../Operations.ts"
import { WebApi } from "../WebApi.ts"

/** All lists with pages. */
const lists = ["/api/sandboxes", "/api/tasks/runs", "/api/sessions", "/api/admins/sandboxes"]

layer(WebApi.layer)("Cursors of lists", (it) => {
  const withRows = Effect.gen(function* () {
    const api = yield* WebApi
    const { account, key } = yield* api.join({ platformAdmin: true })
    const other = yield* api.join()
    for (const who of [key, key, other.key]) {
      yield* api.ask("POST", "/api/sandboxes", { key: who, body: { command: "true" } })
    }
    for (const title of ["a", "b"]) yield* api.ask("POST", "/api/sessions", { key, body: { title } })
    const list = (path: string, cursor?: string) =>
      api.ask("GET", `${path}?limit=1${cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`}`, { key })
    return { account, key, list, ask: api.ask }
  })

  it.effect("continue every list that has pages", () =>
    Effect.gen(function* () {
      const { list } = yield* withRows
      const isOfFiles = (path: string) => path.endsWith("/files")
      const paged = operations.filter(
        ({ parameters, path }) => parameters.some(({ name }) => name === "cursor") && !isOfFiles(path)
      )
      assert.deepStrictEqual(paged.map(({ path }) => path).toSorted(), lists.toSorted())
      for (const path of lists) {
        const first = yield* list(path)
        const second = yield* list(path, first.json.next_cursor)
        assert.strictEqual(second.status, 200, path)
        assert.notDeepEqual(second.json, first.json, path)
      }
    })
  )

  it.effect("are refused if they are damaged, invented or of another list", () =>
    Effect.gen(function* () {
      const { list } = yield* withRows
      const cursors: Array<string> = []
      for (const path of lists) cursors.push((yield* list(path)).json.next_cursor)
      for (const [index, path] of lists.entries()) {
        const own = cursors[index]!
        const damaged = Array.from(
          own,
          (char, at) => `${own.slice(0, at)}${char === "a" ? "b" : "a"}${own.slice(at + 1)}`
        )
        const cut = Array.from(own, (_, at) => own.slice(0, at))
        const others = cursors.filter((cursor) => cursor !== own)
        for (const cursor of [...damaged, ...cut, ...others, `${own}a`, ` ${own}`, "garbage", "1700000000000_x"]) {
          const { json, status } = yield* list(path, cursor)
          assert.deepStrictEqual(
            [status, json.error, json.missing_fields],
            [400, "cursor must be a next_cursor that this list returned", ["cursor"]],
            `${path} ${cursor}`
          )
        }
      }
    })
  )

  it.effect("of a stream are refused if they are not the id of an event of that stream", () =>
    Effect.gen(function* () {
      const { ask, key } = yield* withRows
      const { runs } = (yield* ask("GET", "/api/tasks/runs", { key })).json
      const api = yield* WebApi
      const damaged = {
        "/api/events": ["x", "1.2", "-1", "1e3", "9".repeat(19)],
        [`/api/tasks/runs/${runs[0].id}/logs`]: ["x", "7", "1.", "1.2.3", "-1.0"]
      }
      for (const [path, ids] of Object.entries(damaged)) {
        for (const id of ids) {
          const { json, status } = yield* ask("GET", path, { key, headers: { "last-event-id": id } })
          assert.deepStrictEqual(
            [status, json.error, json.missing_fields],
            [400, "last-event-id must be the id of an event of this stream", ["last-event-id"]],
            `${path} ${id}`
          )
        }
        // Browsers send an empty id if no event had one.
        const { status } = yield* api.askEndless("GET", path, { key, headers: { "last-event-id": "" } })
        assert.strictEqual(status, 200)
      }
    })
  )
})
