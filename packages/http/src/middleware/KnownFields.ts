/** Refuses unknown fields and invalid text of a request before it is decoded. */
import { Context, Effect, Layer, Schema, SchemaAST } from "effect"
import { HttpEffect, HttpServerRequest, HttpServerResponse } from "effect/http"
import type { HttpApiEndpoint } from "effect/http-api"
import { ignoredFields, KnownFields, Lenient, mayContainNul } from "../api/KnownFields.ts"
import { RequestRefused, UnknownField } from "../api/Statuses.ts"
import { RequestJson } from "./RequestJson.ts"

interface Problem {
  /** The names of fields, and the indexes of items, that lead to the value. */
  readonly path: ReadonlyArray<string>
  /** Why the value is invalid; undefined if the field is unknown. */
  readonly says: string | undefined
}

/** Maximum ignored fields in the header. */
const namedAtMost = 20

/** Maximum characters of a field's name in a response. */
const nameLength = 200

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const tagOf = (value: unknown) => (Array.isArray(value) ? "Arrays" : isRecord(value) ? "Objects" : "other")

const loneSurrogate = /\p{Surrogate}/u

const problemsOfText = (ast: SchemaAST.AST, text: string, path: Problem["path"]): ReadonlyArray<Problem> => {
  if (loneSurrogate.test(text)) return [{ path, says: "must be valid Unicode text" }]
  if (text.includes("\0") && !mayContainNul(ast)) return [{ path, says: "must not contain a NUL character" }]
  return []
}

/** Finds unknown fields and invalid text at any depth. Decoding checks everything else. */
const problemsOf = (ast: SchemaAST.AST, value: unknown, path: Problem["path"]): ReadonlyArray<Problem> => {
  switch (ast._tag) {
    case "Suspend":
      return problemsOf(ast.thunk(), value, path)
    case "Union": {
      const tag = tagOf(value)
      const members = ast.types.filter((type) => (tag === "other" ? type._tag !== "Null" : type._tag === tag))
      // A field is known if a member declares it, so the member with the fewest problems decides.
      return (
        members.map((type) => problemsOf(type, value, path)).toSorted((one, other) => one.length - other.length)[0] ??
        []
      )
    }
    case "Arrays":
      if (!Array.isArray(value)) return []
      return value.flatMap((item, index) => {
        const type = ast.elements[index] ?? ast.rest[0]
        return type === undefined ? [] : problemsOf(type, item, [...path, String(index)])
      })
    case "Objects":
      if (!isRecord(value)) return []
      return Object.keys(value).flatMap((name): ReadonlyArray<Problem> => {
        const at = [...path, name]
        const declared = ast.propertySignatures.find((property) => property.name === name)
        const type = declared?.type ?? ast.indexSignatures[0]?.type
        return type === undefined ? [{ path: at, says: undefined }] : problemsOf(type, value[name], at)
      })
    default:
      return typeof value === "string" ? problemsOfText(ast, value, path) : []
  }
}

const problemsBy = (schema: Schema.Top) => {
  const ast = SchemaAST.toEncoded(schema.ast)
  return (value: unknown) => problemsOf(ast, value, [])
}

const noFields = Schema.Struct({})

const json = "application/json"

/** Finds the problems of a JSON body; undefined if the body is bytes. */
const bodyChecker = ({ payload }: HttpApiEndpoint.Top) => {
  if (payload.size === 0) return problemsBy(noFields)
  const schemas = payload.get(json)?.schemas
  return schemas === undefined ? undefined : problemsBy(Schema.Union(schemas))
}

const queryChecker = ({ query }: HttpApiEndpoint.Top) => {
  const check = problemsBy(query ?? noFields)
  return (given: Record<string, string | ReadonlyArray<string>>): ReadonlyArray<Problem> => {
    const found = check(given)
    const unknown = new Set(found.map(({ path }) => path[0]))
    // No query field is a list.
    const repeated = Object.keys(given).filter((name) => Array.isArray(given[name]) && !unknown.has(name))
    return [...found, ...repeated.map((name) => ({ path: [name], says: "must be given once" }))]
  }
}

const isDecodable = (text: string): boolean => {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

const nameOf = ({ path }: Problem) =>
  path
    .join(".")
    .slice(0, nameLength)
    .replaceAll(/\p{Surrogate}/gu, "\ufffd")

/** The names for the header, percent-encoded because headers are ASCII. */
const headerOf = (ignored: ReadonlyArray<Problem>) =>
  ignored
    .slice(0, namedAtMost)
    .map((problem) => encodeURIComponent(nameOf(problem)))
    .join(", ")

const isJson = (contentType: string | undefined) =>
  contentType === undefined || /^application\/json *(;|$)/i.test(contentType)

export const layer = Layer.succeed(
  KnownFields,
  KnownFields.of((answer, { endpoint, group }) => {
    const isLenient = Context.get(Context.merge(group.annotations, endpoint.annotations), Lenient)
    const inQuery = queryChecker(endpoint)
    const inBody = bodyChecker(endpoint)
    const takesNoBody = endpoint.payload.size === 0

    return Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      // The router lets each of these characters begin the query.
      if (!isDecodable(request.url.slice(request.url.search(/[?;#]|$/))))
        return yield* new RequestRefused({ say: "The query must be percent-encoded UTF-8" })
      const problems = [...inQuery(yield* HttpServerRequest.ParsedSearchParams)]
      if (inBody !== undefined) {
        if (isJson(request.headers["content-type"])) {
          const body = yield* yield* RequestJson
          if (takesNoBody && !isRecord(body)) {
            return yield* new RequestRefused({ say: "Request body must be a JSON object, or empty" })
          }
          problems.push(...inBody(body))
        } else if (takesNoBody && (yield* Effect.orDie(request.text)) !== "{}") {
          return HttpServerResponse.empty({ status: 415 })
        }
      }
      const unknown = problems.filter(({ says }) => says === undefined)
      if (unknown[0] !== undefined && !isLenient) return yield* new UnknownField({ name: nameOf(unknown[0]) })
      const invalid = problems.filter(({ says }) => says !== undefined)
      if (invalid[0] !== undefined) {
        const name = nameOf(invalid[0])
        return yield* new RequestRefused({ say: `${name} ${invalid[0].says}`, fields: invalid.map(nameOf) })
      }
      if (unknown.length > 0) {
        const header = headerOf(unknown)
        yield* HttpEffect.appendPreResponseHandler((_, response) =>
          Effect.succeed(HttpServerResponse.setHeader(response, ignoredFields, header))
        )
      }
      return yield* answer
    })
  })
)
