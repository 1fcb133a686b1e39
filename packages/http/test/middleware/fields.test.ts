/** Sends invalid values for every field of openapi.json, and checks that the error names the field. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { bare, type JsonSchema, type Operation, operations, sample, urlOf, uuid } from "../Operations.ts"
import { WebApi } from "../WebApi.ts"

type Path = ReadonlyArray<string>

interface Field {
  readonly path: Path
  readonly schema: JsonSchema
  /** The body or query with another value of the field. */
  readonly within: (value: unknown) => unknown
}

/** All fields of a body, including nested objects and items. */
const fieldsOf = (schema: JsonSchema, path: Path, within: (value: unknown) => unknown): ReadonlyArray<Field> => {
  const own = bare(schema)
  const inner = Object.entries(own.properties ?? {}).flatMap(([name, property]) => {
    const put = (value: unknown) => within({ ...(sample(own) as object), [name]: value })
    const field = { path: [...path, name], schema: property, within: put }
    return [field, ...fieldsOf(property, field.path, put)]
  })
  if (own.items === undefined) return inner
  const put = (value: unknown) => within([value])
  const item = { path: [...path, "0"], schema: own.items, within: put }
  return [...inner, item, ...fieldsOf(own.items, item.path, put)]
}

const isUnbounded = (schema: JsonSchema) => schema.pattern === undefined && schema.enum === undefined

const wrongText = (schema: JsonSchema): ReadonlyArray<string> => [
  ...(schema.minLength === undefined ? [] : [""]),
  ...(schema.maxLength === undefined ? [] : ["x".repeat(schema.maxLength + 1)]),
  ...(isUnbounded(schema) ? [] : ["neither"])
]

/** JSON values that the schema does not allow. */
const wrongValues = (given: JsonSchema): ReadonlyArray<unknown> => {
  const schema = bare(given)
  const others = [7.5, "text", true, ["x"], { a: "b" }]
  switch (schema.type) {
    case "string":
      return [...others.filter((value) => typeof value !== "string"), ...wrongText(schema)]
    case "integer":
      return [...others, "1", (schema.minimum ?? 0) - 1, (schema.maximum ?? 0) + 1, 1e308, -1e308, 2 ** 53]
    case "boolean":
      return others.filter((value) => typeof value !== "boolean")
    case "array": {
      const tooMany = schema.maxItems === undefined ? [] : [Array(schema.maxItems + 1).fill(sample(schema.items ?? {}))]
      return [
        ...others.filter((value) => !Array.isArray(value)),
        ...tooMany,
        ...(schema.minItems === undefined ? [] : [[]])
      ]
    }
    default:
      return others.filter((value) => typeof value !== "object" || Array.isArray(value))
  }
}

/** Sentences that don't help: a decoder's own words, or nothing. */
const unhelpful = /must be an object|is not valid|undefined|null|expected|invalid type/i

const isAbout = (sentence: string, path: Path) =>
  sentence.startsWith(`${path.join(".")} `) || sentence.toLowerCase().startsWith(path[0]!.toLowerCase())

const jsonOperations = operations.filter(({ body }) => body !== undefined)

layer(WebApi.layer)("Fields of requests", (it) => {
  const asAdmin = Effect.gen(function* () {
    const api = yield* WebApi
    const { key } = yield* api.join({ platformAdmin: true })
    return (operation: Operation, url: string, body?: unknown) =>
      api.ask(operation.method, url, { key, ...(body === undefined ? {} : { body }) })
  })

  it.effect("refuses an invalid body field with its path and a sentence that says what to send", () =>
    Effect.gen(function* () {
      const ask = yield* asAdmin
      let asked = 0
      for (const operation of jsonOperations) {
        for (const { path, schema, within } of fieldsOf(operation.body!, [], (body) => body)) {
          for (const value of wrongValues(schema)) {
            const body = within(value)
            const { json, status } = yield* ask(operation, urlOf(operation), body)
            const about = `${operation.id} ${JSON.stringify(body).slice(0, 200)} -> ${JSON.stringify(json)}`
            assert.strictEqual(status, 400, about)
            assert.strictEqual(json.code, "invalid_request", about)
            // The path of an item or a variable is below the tested field.
            assert.isTrue(json.missing_fields[0].startsWith(path.join(".")), about)
            assert.isTrue(isAbout(json.error, path), about)
            assert.notMatch(json.error, unhelpful, about)
            asked++
          }
        }
      }
      assert.isAbove(asked, 300)
    })
  )

  it.effect("refuses a body without required fields and names all that are missing", () =>
    Effect.gen(function* () {
      const ask = yield* asAdmin
      for (const operation of jsonOperations) {
        const required = operation.body!.required ?? []
        if (required.length === 0) continue
        const { json, status } = yield* ask(operation, urlOf(operation), {})
        assert.deepStrictEqual([status, json.error, json.missing_fields], [400, `${required[0]} is required`, required])
      }
    })
  )

  it.effect("refuses a body that is not an object, also for an operation without a body", () =>
    Effect.gen(function* () {
      const ask = yield* asAdmin
      for (const operation of operations.filter(({ takesBytes, method }) => !takesBytes && method !== "GET")) {
        for (const body of [[1], "text", 1, true, null].map((value) => JSON.stringify(value))) {
          const { json, status } = yield* ask(operation, urlOf(operation), body)
          assert.strictEqual(status, 400, operation.id)
          assert.match(json.error, /^Request body must be a JSON object/, operation.id)
        }
      }
    })
  )

  it.effect("refuses text with a NUL character or a lone surrogate", () =>
    Effect.gen(function* () {
      const ask = yield* asAdmin
      for (const operation of jsonOperations) {
        for (const { path, schema, within } of fieldsOf(operation.body!, [], (body) => body)) {
          if (bare(schema).type !== "string") continue
          for (const text of ["a\0b", "a\ud800b"]) {
            const body = within(text)
            // The content of a file may be any text.
            if (path.at(-1) === "content" && text.includes("\0")) continue
            const { json, status } = yield* ask(operation, urlOf(operation), body)
            const about = `${operation.id} ${JSON.stringify(body)} -> ${JSON.stringify(json)}`
            assert.deepStrictEqual([status, json.missing_fields?.[0]], [400, path.join(".")], about)
          }
        }
      }
    })
  )

  it.effect("refuses an invalid query field with its name and a sentence that says what to send", () =>
    Effect.gen(function* () {
      const ask = yield* asAdmin
      const wrong: Record<string, ReadonlyArray<string>> = {
        limit: ["0", "1001", "1.5", "-1", "1e308", "many", "", "9007199254740993"],
        depth: ["0", "65", "x"],
        cursor: ["garbage", "", "1700000000000_x", "1700000000000_x-0000000"],
        path: ["a\0b"]
      }
      for (const operation of operations) {
        for (const { in: place, name, schema } of operation.parameters) {
          if (place !== "query") continue
          for (const value of [...(wrong[name] ?? []), ...wrongText(schema)]) {
            const url = urlOf(operation, [[name, value]])
            const { json, status } = yield* ask(operation, url)
            const about = `${operation.id} ${url.slice(0, 200)} -> ${JSON.stringify(json)}`
            assert.deepStrictEqual([status, json.code, json.missing_fields], [400, "invalid_request", [name]], about)
            assert.isTrue(json.error.startsWith(`${name} `), about)
            assert.notMatch(json.error, unhelpful, about)
          }
          const twice = yield* ask(
            operation,
            urlOf(operation, [
              [name, "a"],
              [name, "b"]
            ])
          )
          assert.deepStrictEqual(
            [twice.status, twice.json.error, twice.json.missing_fields],
            [400, `${name} must be given once`, [name]],
            operation.id
          )
        }
        const required = operation.parameters.filter((one) => one.in === "query" && one.required)
        if (required[0] !== undefined) {
          const { json, status } = yield* ask(operation, urlOf(operation).split("?")[0]!)
          const [name] = required.map((one) => one.name)
          assert.deepStrictEqual([status, json.error, json.missing_fields], [400, `${name} is required`, [name]])
        }
      }
    })
  )

  it.effect(
    "with an unknown body or query field is refused with the field's name, unless the operation is lenient",
    () =>
      Effect.gen(function* () {
        const ask = yield* asAdmin
        for (const operation of operations) {
          const tries: Array<readonly [name: string, url: string, body: unknown]> = [
            ["zz", urlOf(operation, [["zz", "1"]]), operation.body === undefined ? undefined : sample(operation.body)],
            ["__proto__", urlOf(operation, [["__proto__", "1"]]), undefined],
            ["constructor", urlOf(operation, [["constructor", "1"]]), undefined]
          ]
          if (!operation.takesBytes && operation.method !== "GET") {
            const body = JSON.stringify({ ...(sample(operation.body ?? {}) as object) }).slice(1)
            const and = body === "}" ? "" : ","
            for (const name of ["zz", "__proto__", "constructor", "toString"]) {
              tries.push([name, urlOf(operation), `{"${name}":{"a":1}${and}${body}`])
            }
          }
          if (operation.id === "apps.apply") {
            tries.push(["files.0.zz", urlOf(operation), { files: [{ path: "x", content: "x", zz: 1 }] }])
          }
          for (const [name, url, body] of tries) {
            const { headers, json, status } = yield* ask(operation, url, body)
            const about = `${operation.id} ${url} ${JSON.stringify(body)} -> ${status} ${JSON.stringify(json)}`
            if (operation.isLenient) {
              assert.strictEqual(headers.get("x-ignored-fields"), name, about)
              assert.notStrictEqual(json.code, "unknown_field", about)
            } else {
              assert.deepStrictEqual(
                [status, json.code, json.error],
                [400, "unknown_field", `unknown field: ${name}`],
                about
              )
            }
          }
        }
      })
  )

  it.effect("ignores unknown fields only for the operations of the published pages of session and app sandboxes", () =>
    Effect.sync(() => {
      const lenient = operations.filter(({ isLenient }) => isLenient).map(({ method, path }) => `${method} ${path}`)
      assert.deepStrictEqual(lenient.toSorted(), [
        "GET /api/sandbox/files",
        "GET /api/sandbox/status",
        "POST /api/packages/install",
        "POST /api/sandbox",
        "POST /api/sandbox/create",
        "POST /api/sandbox/diagnostics",
        "POST /api/sandbox/kill"
      ])
    })
  )

  it.effect("names at most 20 ignored fields in the header, percent-encoded", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const ask = (body: unknown) =>
        Effect.flatMap(WebApi, (api) => api.ask("POST", "/api/sandbox/kill", { key, body }))
      const odd = yield* ask({ "café\r\nx: y": 1, sandboxId: "x", nested: { deep: 1 } })
      assert.deepStrictEqual(
        [odd.status, odd.headers.get("x-ignored-fields")],
        [200, "caf%C3%A9%0D%0Ax%3A%20y, nested"]
      )
      const many = yield* ask(Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`f${index}`, 1])))
      assert.lengthOf(many.headers.get("x-ignored-fields")!.split(", "), 20)
      const long = yield* ask({ ["x".repeat(100_000)]: 1 })
      assert.isBelow(long.headers.get("x-ignored-fields")!.length, 1000)
      assert.include(long.headers.get("access-control-expose-headers")!, "x-ignored-fields")
    })
  )

  it.effect("authenticates a request before it checks the fields, and creates nothing if they are refused", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      assert.strictEqual((yield* ask("POST", "/api/sandboxes?zz=1", { body: { zz: 1 } })).status, 401)
      const { key } = yield* join()
      const headers = { "idempotency-key": "a" }
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key, headers, body: { zz: 1 } })).status, 400)
      assert.deepStrictEqual((yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes, [])
      const again = yield* ask("POST", "/api/sandboxes", { key, headers, body: {} })
      assert.deepStrictEqual([again.status, again.headers.get("idempotency-replayed")], [200, null])
    })
  )

  it.effect("accepts any content type of a request without a body", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      for (const type of ["application/json", "application/json; charset=utf-8", "text/plain"]) {
        const { json } = yield* ask("POST", "/api/sandboxes/x/fork", {
          key,
          headers: { "content-type": type },
          body: ""
        })
        assert.strictEqual(json.error, "Sandbox not found", type)
      }
      const headers = { "content-type": "text/plain" }
      assert.strictEqual((yield* ask("POST", "/api/sandboxes/x/fork", { key, headers, body: "a=b" })).status, 400)
    })
  )

  it.effect("refuses a body or a URL that is not UTF-8", () =>
    Effect.gen(function* () {
      const { ask, fetch, join } = yield* WebApi
      const { key } = yield* join()
      const init = {
        method: "POST",
        headers: { "x-api-key": key, "content-type": "application/json" },
        body: new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])
      }
      const answer = yield* fetch(new Request("http://castellan.test/api/sandboxes", init))
      assert.strictEqual(answer.status, 400)
      for (const url of [
        "/api/sandboxes/%zz",
        "/api/sandboxes/%ff",
        "/api/sandboxes?sandbox_id=%ff",
        "/api/keys?%zz=1"
      ]) {
        const { json, status } = yield* ask("GET", url, { key })
        assert.deepStrictEqual([status, json.code], [400, "invalid_request"], url)
      }
      assert.strictEqual(
        (yield* ask("GET", `/api/sandboxes/${uuid.repeat(100)}`, { key })).json.error,
        "Sandbox not found"
      )
    })
  )
})
