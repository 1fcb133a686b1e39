/** What is said of a request that does not have the form it should. */
import { SchemaIssue } from "effect"
import type { HttpApiError } from "effect/http-api"
import { type ErrorBody, errorBody } from "./api/ErrorBody.ts"

const annotated = (issue: SchemaIssue.Issue): string | undefined => {
  const message = "annotations" in issue ? (issue.annotations as { message?: unknown } | undefined)?.message : undefined
  return typeof message === "string" ? message : undefined
}

const kind: Record<string, string> = {
  String: "must be a string",
  Number: "must be a number",
  Boolean: "must be true or false",
  Arrays: "must be a list",
  Objects: "must be an object"
}

const leaf: SchemaIssue.LeafHook = (issue) => {
  switch (issue._tag) {
    case "MissingKey":
      return "is required"
    case "InvalidType":
      return annotated(issue) ?? messageOf(issue.ast.annotations) ?? kind[issue.ast._tag] ?? "is not valid"
    default:
      return annotated(issue) ?? "is not valid"
  }
}

const messageOf = (annotations: unknown): string | undefined => {
  const message = (annotations as { message?: unknown } | undefined)?.message
  return typeof message === "string" ? message : undefined
}

const check: SchemaIssue.CheckHook = (issue) =>
  annotated(issue) ?? messageOf(issue.filter.annotations) ?? annotated(issue.issue) ?? "is not valid"

const format = SchemaIssue.makeFormatterStandardSchemaV1({ leafHook: leaf, checkHook: check })

const nameOf = (segment: PropertyKey | { readonly key: PropertyKey }) =>
  String(typeof segment === "object" ? segment.key : segment)

/** The first issue in words a person can act on, and the names of all fields that are missing. */
export const describe = (error: HttpApiError.HttpApiSchemaError): ErrorBody => {
  const issues = format(error.cause.issue).issues.map(({ message, path = [] }) => ({
    message,
    field: path.map(nameOf).join(".")
  }))
  const [first] = issues
  const missing = issues.filter(({ message }) => message === "is required").map(({ field }) => field)
  const subject = first === undefined || first.field === "" ? "Request body" : first.field
  return errorBody(
    "invalid_request",
    `${subject} ${first?.message ?? "is not valid"}`,
    missing.length === 0 ? {} : { missing_fields: [...new Set(missing)] }
  )
}
