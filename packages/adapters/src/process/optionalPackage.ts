/** Loads an npm package that embedders install only if they use the adapter which needs it. */
import { Effect, Schema } from "effect"

/** The package is not installed. The message says which one to install, and for what. */
export class PackageMissing extends Schema.TaggedError<PackageMissing>()("PackageMissing", {
  message: Schema.String
}) {}

const notFoundCodes: ReadonlyArray<unknown> = ["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"]

/** Whether the package itself is missing. A module that is missing inside an installed package is another fault. */
const isMissing = (name: string, cause: unknown): boolean => {
  const { code, message } = cause as { readonly code?: unknown; readonly message?: unknown }
  return notFoundCodes.includes(code) && String(message).includes(`'${name}`)
}

/** The error for a missing package; `purpose` completes the sentence "Install NAME to …". */
export const packageMissing = (name: string, purpose: string): PackageMissing =>
  new PackageMissing({ message: `Install ${name} to ${purpose}` })

/** Imports an optional package by `load`, whose `import()` names it literally so that bundlers find it. */
export const importOptional = <A>(
  name: string,
  purpose: string,
  load: () => Promise<A>
): Effect.Effect<A, PackageMissing> =>
  Effect.catch(Effect.tryPromise({ try: load, catch: (cause) => cause }), (cause) =>
    isMissing(name, cause) ? Effect.fail(packageMissing(name, purpose)) : Effect.die(cause)
  )
