/** What is said of a request that does not have the form it should. */
import type { SchemaAST, SchemaIssue } from "effect"
import type { HttpApiError } from "effect/http-api"
import { type ErrorBody, errorBody } from "./api/ErrorBody.ts"

interface Finding {
  readonly path: ReadonlyArray<PropertyKey>
  readonly says: string
}

const required = "is required"

const kinds: Partial<Record<SchemaAST.AST["_tag"], string>> = {
  String: "must be a string",
  Number: "must be a number",
  Boolean: "must be true or false",
  Arrays: "must be a list",
  Objects: "must be an object"
}

const messageIn = (annotated: { readonly annotations?: unknown }): string | undefined => {
  const message = (annotated.annotations as { readonly message?: unknown } | undefined)?.message
  return typeof message === "string" ? message : undefined
}

/** What a value of that kind must be; of several kinds the first is named. */
const kindOf = (ast: SchemaAST.AST): string | undefined =>
  messageIn(ast) ?? (ast._tag === "Union" && ast.types[0] !== undefined ? kindOf(ast.types[0]) : kinds[ast._tag])

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
        ? [{ path, says: said ?? kindOf(issue.ast) ?? "is not valid" }]
        : findings(issue.issues[0]!, path, said)
    case "MissingKey":
      return [{ path, says: required }]
    case "InvalidType":
      return [{ path, says: said ?? kindOf(issue.ast) ?? "is not valid" }]
    case "InvalidValue":
      return [{ path, says: said ?? messageIn(issue) ?? "is not valid" }]
    default:
      return [{ path, says: said ?? "is not valid" }]
  }
}

/** The first issue in words a person can act on, and the names of all fields that are missing. */
export const describe = (error: HttpApiError.HttpApiSchemaError): ErrorBody => {
  const all = findings(error.cause.issue, [], undefined).map(({ path, says }) => ({
    field: path.map(String).join("."),
    says
  }))
  const [first] = all
  const missing = all.filter(({ says }) => says === required).map(({ field }) => field)
  // What begins with a capital letter is a whole sentence.
  if (first !== undefined && /^[A-Z]/.test(first.says)) return errorBody("invalid_request", first.says)
  const subject = first === undefined || first.field === "" ? "Request body" : first.field
  const more = missing.length === 0 ? {} : { missing_fields: [...new Set(missing)] }
  return errorBody("invalid_request", `${subject} ${first?.says ?? "is not valid"}`, more)
}
