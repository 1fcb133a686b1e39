/** Describes the schema errors of a request in sentences that say what to change. */
import { SchemaAST, type SchemaIssue } from "effect"
import type { HttpApiError } from "effect/http-api"
import { type ErrorBody, errorBody } from "../api/ErrorBody.ts"

interface Problem {
  readonly path: ReadonlyArray<PropertyKey>
  readonly message: string
}

const required = "is required"

const messageIn = (annotated: { readonly annotations?: unknown }): string | undefined => {
  const message = (annotated.annotations as { readonly message?: unknown } | undefined)?.message
  return typeof message === "string" ? message : undefined
}

const nouns: Partial<Record<SchemaAST.AST["_tag"], readonly [one: string, several: string]>> = {
  String: ["a string", "strings"],
  Number: ["a number", "numbers"],
  Boolean: ["true or false", "true or false"],
  Objects: ["a JSON object", "JSON objects"]
}

const enumerate = (words: ReadonlyArray<string>, last: "and" | "or") =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1)}`

/** The message of a check that describes a whole format, such as "must be a valid UUID"; it says more than the type. */
const formatOf = (ast: SchemaAST.AST): string | undefined =>
  ast.checks?.map(messageIn).find((message) => message !== undefined && /^must be (an?|the) /.test(message))

/** What a schema expects: its own message, that of a format check, or its type. */
const expectationOf = (ast: SchemaAST.AST): string | undefined => {
  const own = messageIn(ast) ?? formatOf(ast)
  if (own !== undefined) return own
  switch (ast._tag) {
    case "Union": {
      const members = ast.types.filter(({ _tag }) => _tag !== "Null")
      if (members.length > 1 && members.every((type) => type._tag === "Literal")) {
        return `must be ${enumerate(
          members.map((type) => String(type.literal)),
          "or"
        )}`
      }
      return members[0] === undefined ? undefined : expectationOf(members[0])
    }
    case "Literal":
      return `must be ${String(ast.literal)}`
    case "Arrays": {
      const item = ast.rest[0] ?? ast.elements[0]
      const noun = item === undefined ? undefined : nouns[item._tag]
      return `must be a list${noun === undefined ? "" : ` of ${noun[1]}`}`
    }
    case "Objects": {
      const names = ast.propertySignatures.map(({ name }) => String(name))
      return names.length === 0 ? "must be a JSON object" : `must be a JSON object with ${enumerate(names, "and")}`
    }
    default: {
      const encoded = SchemaAST.toEncoded(ast)
      if (encoded !== ast) return expectationOf(encoded)
      return nouns[ast._tag] === undefined ? undefined : `must be ${nouns[ast._tag]![0]}`
    }
  }
}

/** All problems of an issue, in order. A schema's own message replaces those of its parts. */
const problemsOf = (
  issue: SchemaIssue.Issue,
  path: ReadonlyArray<PropertyKey>,
  ownMessage: string | undefined
): ReadonlyArray<Problem> => {
  switch (issue._tag) {
    case "Pointer":
      return problemsOf(issue.issue, [...path, ...issue.path], undefined)
    case "Filter":
      return problemsOf(issue.issue, path, ownMessage ?? messageIn(issue.filter))
    case "Encoding":
      return problemsOf(issue.issue, path, ownMessage ?? messageIn(issue.ast))
    case "Composite":
      return issue.issues.flatMap((inner) => problemsOf(inner, path, ownMessage ?? messageIn(issue.ast)))
    case "AnyOf":
      return issue.issues.length === 0
        ? [{ path, message: ownMessage ?? expectationOf(issue.ast) ?? "is not valid" }]
        : problemsOf(issue.issues[0]!, path, ownMessage)
    case "MissingKey":
      return [{ path, message: required }]
    case "InvalidType":
      return [{ path, message: ownMessage ?? expectationOf(issue.ast) ?? "is not valid" }]
    case "InvalidValue":
      return [{ path, message: ownMessage ?? messageIn(issue) ?? "is not valid" }]
    default:
      return [{ path, message: ownMessage ?? "is not valid" }]
  }
}

/** Most fields that a response names. */
const maxNamedFields = 100

/** Describes the first problem, and names every field that is missing or invalid. */
export const describe = (error: HttpApiError.HttpApiSchemaError): ErrorBody => {
  const all = problemsOf(error.cause.issue, [], undefined).map(({ path, message }) => ({
    field: path.map(String).join("."),
    message
  }))
  const [first] = all
  const fields = [...new Set(all.map(({ field }) => field).filter((field) => field !== ""))].slice(0, maxNamedFields)
  const more = fields.length === 0 ? {} : { missing_fields: fields }
  // A message that begins with a capital letter is a whole sentence and needs no field name before it.
  if (first !== undefined && /^[A-Z]/.test(first.message)) return errorBody("invalid_request", first.message, more)
  if (first === undefined || first.field === "")
    return errorBody("invalid_request", "Request body must be a JSON object")
  return errorBody("invalid_request", `${first.field} ${first.message}`, more)
}
