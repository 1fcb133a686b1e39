/** What is said of a request that does not have the form it should. */
import { SchemaAST, type SchemaIssue } from "effect"
import type { HttpApiError } from "effect/http-api"
import { type ErrorBody, errorBody } from "../api/ErrorBody.ts"

interface Finding {
  readonly path: ReadonlyArray<PropertyKey>
  readonly says: string
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

/** Checks that describe a whole form, such as "must be a valid UUID", say more than the type does. */
const formOf = (ast: SchemaAST.AST): string | undefined =>
  ast.checks?.map(messageIn).find((message) => message !== undefined && /^must be (an?|the) /.test(message))

/** Says what to send for a schema: in its own words, by its form, or by its type. */
const expectationOf = (ast: SchemaAST.AST): string | undefined => {
  const own = messageIn(ast) ?? formOf(ast)
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

/** Everything an issue is about, in order. What the schema says of itself goes before what is found inside it. */
const findings = (
  issue: SchemaIssue.Issue,
  path: ReadonlyArray<PropertyKey>,
  said: string | undefined
): ReadonlyArray<Finding> => {
  switch (issue._tag) {
    case "Pointer":
      return findings(issue.issue, [...path, ...issue.path], undefined)
    case "Filter":
      return findings(issue.issue, path, said ?? messageIn(issue.filter))
    case "Encoding":
      return findings(issue.issue, path, said ?? messageIn(issue.ast))
    case "Composite":
      return issue.issues.flatMap((inner) => findings(inner, path, said ?? messageIn(issue.ast)))
    case "AnyOf":
      return issue.issues.length === 0
        ? [{ path, says: said ?? expectationOf(issue.ast) ?? "is not valid" }]
        : findings(issue.issues[0]!, path, said)
    case "MissingKey":
      return [{ path, says: required }]
    case "InvalidType":
      return [{ path, says: said ?? expectationOf(issue.ast) ?? "is not valid" }]
    case "InvalidValue":
      return [{ path, says: said ?? messageIn(issue) ?? "is not valid" }]
    default:
      return [{ path, says: said ?? "is not valid" }]
  }
}

/** How many fields at fault an answer names. */
const namedAtMost = 100

/** Describes the first issue in words a person can act on, and names every field that is missing or invalid. */
export const describe = (error: HttpApiError.HttpApiSchemaError): ErrorBody => {
  const all = findings(error.cause.issue, [], undefined).map(({ path, says }) => ({
    field: path.map(String).join("."),
    says
  }))
  const [first] = all
  const fields = [...new Set(all.map(({ field }) => field).filter((field) => field !== ""))].slice(0, namedAtMost)
  const more = fields.length === 0 ? {} : { missing_fields: fields }
  // A message that begins with a capital letter is a whole sentence.
  if (first !== undefined && /^[A-Z]/.test(first.says)) return errorBody("invalid_request", first.says, more)
  if (first === undefined || first.field === "")
    return errorBody("invalid_request", "Request body must be a JSON object")
  return errorBody("invalid_request", `${first.field} ${first.says}`, more)
}
