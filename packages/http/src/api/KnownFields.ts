/** Declares the checks of every request before it is decoded, and how an operation treats unknown fields. */
import { Context, type Schema, type SchemaAST } from "effect"
import { HttpApiMiddleware } from "effect/http-api"
import { anyOperation } from "./Statuses.ts"

/**
 * Refuses unknown fields and invalid text. Its errors include those of the layers around the API (body, media type, server
 * faults), since this is the one middleware that every operation has.
 */
export class KnownFields extends HttpApiMiddleware.Service<KnownFields>()("http/api/KnownFields", {
  error: anyOperation
}) {}

/** Whether an operation ignores unknown fields and names them in the header `x-ignored-fields`; otherwise it refuses them. */
export const Lenient = Context.Reference<boolean>("http/api/Lenient", { defaultValue: () => false })

/** The response header with the names of the ignored fields, percent-encoded and separated by `, `. */
export const ignoredFields = "x-ignored-fields"

const nul = "http/api/mayContainNul"

/** Lets text contain NUL characters. Other text can't: neither a database nor a path can hold one. */
export const allowNul = <S extends Schema.Top>(schema: S) => schema.annotate({ [nul]: true })

/** Whether text of the schema may contain NUL characters. */
export const mayContainNul = ({ annotations }: SchemaAST.AST): boolean => annotations?.[nul] === true
