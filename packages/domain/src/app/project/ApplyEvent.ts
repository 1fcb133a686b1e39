import { Data } from "effect"

/** What is told while a change is brought into a project, in its order. */
export type ApplyEvent = Data.TaggedEnum<{
  /** What is done now, in words. */
  Status: { readonly message: string }
  /** A file is written. */
  File: { readonly path: string }
  /** A package is installed. */
  Package: { readonly name: string; readonly version: string }
  /** Something did not work out; the rest goes on where it can. */
  Problem: { readonly message: string }
  /** It is over; `errors` has every problem again. */
  Complete: {
    readonly files: ReadonlyArray<string>
    readonly packages: ReadonlyArray<string>
    readonly errors: ReadonlyArray<string>
  }
}>
export const ApplyEvent = Data.taggedEnum<ApplyEvent>()
