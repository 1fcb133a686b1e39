import { Data } from "effect"

/** Progress of a change to a project, in order. */
export type ApplyEvent = Data.TaggedEnum<{
  /** The current step, as a sentence. */
  Status: { readonly message: string }
  /** A file was written. */
  File: { readonly path: string }
  /** A package was installed. */
  Package: { readonly name: string; readonly version: string }
  /** A step failed. The steps that do not depend on it continue. */
  Problem: { readonly message: string }
  /** The last event. `errors` repeats every problem. */
  Complete: {
    readonly files: ReadonlyArray<string>
    readonly packages: ReadonlyArray<string>
    readonly errors: ReadonlyArray<string>
  }
}>
export const ApplyEvent = Data.taggedEnum<ApplyEvent>()
