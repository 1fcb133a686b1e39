/** Declares how an operation treats body and query fields that it does not know. */
import { Context, type Schema, type SchemaAST } from "effect"
import { HttpApiMiddleware, OpenApi } from "effect/http-api"
import { Statuses } from "./Statuses.ts"

/** Refuses unknown fields with 400 `unknown_field`. A `Lenient` operation ignores them and names them in a header. */
export class KnownFields extends HttpApiMiddleware.Service<KnownFields>()("http/api/KnownFields", {
  error: [Statuses.UnknownField, Statuses.RequestRefused]
}) {}

/** Whether an operation ignores unknown fields and names them in the header `x-ignored-fields`. */
export const Lenient = Context.Reference<boolean>("http/api/Lenient", { defaultValue: () => false })

/** The mark of a lenient operation in the API's description. */
export const lenientMark = "x-ignores-unknown-fields"

/** Makes an operation lenient, and its description say so. */
export const lenient = Context.make(Lenient, true).pipe(
  Context.add(OpenApi.Transform, (operation) => ({ ...operation, [lenientMark]: true }))
)

/** The header that names the fields that a lenient operation ignored, percent-encoded, with `, ` between them. */
export const ignoredFields = "x-ignored-fields"

const nul = "http/api/mayContainNul"

/** Lets text of a request contain NUL characters, which are refused otherwise: neither a database nor a path can hold one. */
export const allowNul = <S extends Schema.Top>(schema: S) => schema.annotate({ [nul]: true })

/** Whether text of that schema may contain NUL characters. */
export const mayContainNul = ({ annotations }: SchemaAST.AST): boolean => annotations?.[nul] === true
