/** Generates requests from openapi.json: valid ones, and invalid ones of every kind that a client can send. */
import * as fc from "fast-check"
import { sharedRepo } from "../tenancy/expectations.ts"
import { bare, type JsonSchema, type Operation, operations, type Parameter, uuid } from "../Operations.ts"

/** A request whose text may contain placeholders for existing ids, such as `$sandbox`. */
export interface MadeUp {
  readonly operation: string
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** The bytes of the body, one character each; null for no body. */
  readonly body: string | null
}

/** Placeholders for existing ids. */
export const placeholders = [
  "$sandbox",
  "$run",
  "$session",
  "$app",
  "$key",
  "$account",
  "$organization",
  "$snapshot"
] as const

const oddText = [
  "",
  " ",
  "x",
  "\0",
  "a\0b",
  "\ud800",
  "\udfff tail",
  "e\u0301\u202e\ufeff",
  "\u{1f600}",
  "\r\nx-injected: 1",
  "__proto__",
  "constructor",
  "toString",
  "..",
  "../../etc/passwd",
  "/etc/passwd",
  "./src/x.ts",
  "a/../b",
  "node_modules/x",
  "-rf",
  "--help",
  "null",
  "NaN",
  "1e308",
  "0x10",
  "9007199254740993",
  "+010000-01-01T00:00:00Z",
  "-271821-04-20T00:00:00Z",
  "9999-12-31T23:59:59.999Z",
  "9999-12-31T23:59:59-23:59",
  "2030-02-30T00:00:00Z",
  "2030-01-01",
  "https://github.com/owner/repo",
  "https://user:secret@github.com/owner/repo",
  "file:///etc/passwd",
  "http://[::1",
  "javascript:alert(1)",
  "${jndi:x}",
  "'; drop table accounts; --",
  "%",
  "%00",
  "%zz",
  uuid,
  uuid.toUpperCase(),
  "00000000-0000-0000-0000-000000000000",
  "1700000000000_x",
  "1700000000000_x-0000000",
  "x".repeat(300),
  "x".repeat(5000),
  "é".repeat(140_000)
]

const text: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...oddText) },
  { weight: 3, arbitrary: fc.constantFrom(...placeholders) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
  { weight: 1, arbitrary: fc.string({ maxLength: 20 }) }
)

const number = fc.oneof(
  fc.constantFrom(
    0,
    -0,
    1,
    -1,
    1.5,
    2 ** 31,
    2 ** 53,
    -(2 ** 53),
    2 ** 53 - 1,
    1e308,
    -1e308,
    5e-324,
    86_400_000,
    86_400_001
  ),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true })
)

const deep = fc.integer({ min: 2, max: 20_000 }).map((levels) => "[".repeat(levels) + "]".repeat(levels))

/** Any JSON as text, including values that JSON.stringify never writes. */
const anyJson: fc.Arbitrary<string> = fc.oneof(
  { weight: 3, arbitrary: text.map((value) => JSON.stringify(value)) },
  { weight: 3, arbitrary: number.map((value) => (Object.is(value, -0) ? "-0" : JSON.stringify(value))) },
  { weight: 3, arbitrary: fc.constantFrom("null", "true", "false", "[]", "{}", '[""]', '{"a":1}', "[[]]", "1e400") },
  { weight: 1, arbitrary: fc.json({ maxDepth: 3 }) },
  { weight: 1, arbitrary: deep },
  { weight: 1, arbitrary: fc.constantFrom('{"__proto__":{"x":1}}', '{"constructor":{"prototype":1}}', '{"a":1,"a":2}') }
)

const names = fc.oneof(
  fc.constantFrom(
    "__proto__",
    "constructor",
    "prototype",
    "toString",
    "",
    "env",
    "timeoutMs",
    "snapshotId",
    "account_id",
    "zz"
  ),
  text
)

const object = (entries: ReadonlyArray<readonly [string, string]>) =>
  `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`

/** How many of ten values are valid, so that requests get past their first field. */
const mostly = (right: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 7, arbitrary: right },
    { weight: 2, arbitrary: anyJson },
    { weight: 1, arbitrary: fc.constant("null") }
  )

const range = ({ maximum = 2 ** 53 - 1, minimum = -(2 ** 53) + 1 }: JsonSchema) =>
  fc.oneof(fc.constantFrom(minimum, maximum), fc.integer({ min: minimum, max: Math.min(maximum, minimum + 1000) }))

/** Text that may be valid for a field of that name. */
const likelyText = (name: string, schema: JsonSchema): fc.Arbitrary<string> => {
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  if (schema.format === "uuid") return fc.constantFrom("$account", "$organization", uuid)
  if (/^command$/i.test(name)) return fc.constantFrom("true", "echo", "false", "no-such-program", "x\ny")
  if (/session/i.test(name)) return fc.constantFrom("$session", uuid)
  if (/sandbox/i.test(name)) return fc.constantFrom("$sandbox", "$app", "sbx_none")
  if (/snapshot/i.test(name)) return fc.constantFrom("$snapshot", "snap_none")
  if (/run/i.test(name)) return fc.constantFrom("$run", "run_none")
  if (/path|cwd/i.test(name)) return fc.constantFrom("notes.txt", "src/App.tsx", ".", "a/b/c", "none")
  if (/repo/i.test(name)) return fc.constantFrom(sharedRepo.url, "https://github.com/a/b")
  if (/^id$/.test(name)) return fc.constantFrom("$session", "$key", "$organization")
  if (/expiresAt/.test(name)) return fc.constantFrom("2100-01-01T00:00:00Z", "2100-01-01", "9999-12-31T23:59:59.999Z")
  if (/email/.test(name)) return fc.constantFrom("a@b.example")
  if (/limit/.test(name)) return fc.constantFrom("1", "100")
  return fc.string({ minLength: 1, maxLength: 12 })
}

const jsonOf = (given: JsonSchema, name = ""): fc.Arbitrary<string> => {
  const schema = bare(given)
  switch (schema.type) {
    case "string":
      return mostly(fc.oneof(likelyText(name, schema), text).map((value) => JSON.stringify(value)))
    case "integer":
      return mostly(fc.oneof(range(schema), number).map((value) => JSON.stringify(value)))
    case "boolean":
      return mostly(fc.constantFrom("true", "false"))
    case "array":
      return mostly(fc.array(jsonOf(schema.items ?? {}, name), { maxLength: 4 }).map((items) => `[${items.join(",")}]`))
    case "object":
      return mostly(objectOf(schema))
    default:
      return anyJson
  }
}

const objectOf = ({ additionalProperties, properties = {}, required = [] }: JsonSchema): fc.Arbitrary<string> => {
  const declared = Object.entries(properties).map(([name, schema]) =>
    fc
      .tuple(fc.integer({ min: 1, max: 10 }), jsonOf(schema, name))
      .map(([chance, value]): Array<readonly [string, string]> =>
        // A required field is left out now and then, an optional one half of the time.
        chance > (required.includes(name) ? 1 : 5) ? [[name, value]] : []
      )
  )
  const more = typeof additionalProperties === "object" ? jsonOf(additionalProperties) : anyJson
  const extra = fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.tuple(names, more), { maxLength: 2 }) }
  )
  return fc.tuple(fc.tuple(...declared), extra).map(([own, others]) => object([...own.flat(), ...others]))
}

/** The text as part of a URL. A lone surrogate becomes the bytes that some clients send for it. */
const inUrl = (value: string): string =>
  [...value]
    .map((char) => (/\p{Surrogate}/u.test(char) ? "%ED%A0%80" : encodeURIComponent(char).replaceAll("%24", "$")))
    .join("")

const oddSegments = [
  "%zz",
  "%",
  "%ff",
  "%00",
  "..%2f..",
  "%2e%2e",
  "a;b",
  "a%3Fb",
  "setup",
  "file",
  "status",
  "members",
  "%73etup",
  "."
]

const segment = ({ name, schema }: Parameter): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 8, arbitrary: likelyText(name, schema).map(inUrl) },
    { weight: 2, arbitrary: text.filter((value) => value !== "").map(inUrl) },
    { weight: 1, arbitrary: fc.constantFrom(...oddSegments) }
  )

const pathOf = ({ parameters, path }: Operation): fc.Arbitrary<string> => {
  const inPath = parameters.filter((one) => one.in === "path")
  return fc
    .tuple(fc.tuple(...inPath.map(segment)), fc.constantFrom("", "", "", "", "/", "//", "/%zz"))
    .map(([values, end]) => inPath.reduce((at, { name }, index) => at.replace(`{${name}}`, values[index]!), path) + end)
}

const queryOf = ({ parameters }: Operation): fc.Arbitrary<string> => {
  const declared = parameters
    .filter((one) => one.in === "query")
    .map(({ name, required, schema }) =>
      fc
        .tuple(
          fc.integer({ min: 1, max: 10 }),
          fc.oneof({ weight: 4, arbitrary: likelyText(name, schema) }, { weight: 1, arbitrary: text })
        )
        .map(([chance, value]) => (chance > (required ? 1 : 7) ? [`${name}=${inUrl(value)}`] : []))
    )
  const extra = fc.oneof(
    { weight: 6, arbitrary: fc.constant("") },
    { weight: 1, arbitrary: fc.tuple(names, text).map(([name, value]) => `${inUrl(name)}=${inUrl(value)}`) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        "limit=1&limit=2",
        "account_id=$account&account_id=x",
        "%zz=1",
        "=",
        "&&",
        "zz",
        "__proto__=1"
      )
    }
  )
  return fc.tuple(fc.tuple(...declared), extra).map(([own, more]) => {
    const search = [...own.flat(), more].filter((part) => part !== "").join("&")
    return search === "" ? "" : `?${search}`
  })
}

const bytesOf = (value: string) =>
  Array.from(new TextEncoder().encode(value), (byte) => String.fromCharCode(byte)).join("")

const bodyOf = (operation: Operation): fc.Arbitrary<string | null> => {
  if (operation.method === "GET") return fc.constant(null)
  const declared = objectOf(operation.body ?? {})
  return fc
    .oneof(
      { weight: 12, arbitrary: declared },
      { weight: 1, arbitrary: anyJson },
      { weight: 1, arbitrary: fc.constantFrom("{", '{"a":}', "a=b", "\ufeff{}", " {} ", "{}{}", "") },
      { weight: operation.body === undefined ? 12 : 1, arbitrary: fc.constant(null) }
    )
    .map((value) => (value === null ? null : bytesOf(value)))
}

const headersOf = (operation: Operation): fc.Arbitrary<Readonly<Record<string, string>>> =>
  fc
    .record({
      "content-type": fc.oneof(
        { weight: 12, arbitrary: fc.constant(operation.takesBytes ? "application/octet-stream" : "application/json") },
        {
          weight: 1,
          arbitrary: fc.constantFrom(
            "text/plain",
            "application/json; charset=utf-8",
            "application/JSON",
            "multipart/form-data",
            "application/x-www-form-urlencoded",
            ";",
            "application/json;"
          )
        }
      ),
      "idempotency-key": fc.constantFrom("", "", "", "", "a", "b", "x".repeat(255), "x".repeat(256), "é"),
      "last-event-id": fc.constantFrom("", "", "", "0", "0.0", "999999999999999999", "x", "-1", "1.2.3"),
      "x-request-id": fc.constantFrom("", "", "given-id", "<script>", "x".repeat(200))
    })
    .map((headers) => Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== "")))

const requestOf = (operation: Operation): fc.Arbitrary<MadeUp> =>
  fc
    .record({
      method: fc.oneof(
        { weight: 20, arbitrary: fc.constant(operation.method) },
        { weight: 1, arbitrary: fc.constantFrom("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND") }
      ),
      path: pathOf(operation),
      query: queryOf(operation),
      headers: headersOf(operation),
      body: bodyOf(operation)
    })
    .map(({ body, headers, method, path, query }) => ({
      operation: operation.id,
      method,
      url: path + query,
      headers,
      body: method === "GET" ? null : body
    }))

/** Any request to any operation of the API. */
export const request: fc.Arbitrary<MadeUp> = fc.oneof(...operations.map(requestOf))
