import { Schema } from "effect"

/** A path inside a sandbox: absolute, or relative to its home directory. */
export const SandboxPath = Schema.String.check(
  Schema.isMinLength(1, { message: "must not be empty" }),
  Schema.isPattern(/^[^\0]*$/, { message: "must not contain a NUL character" }),
  Schema.isMaxLength(4096, { message: "must be at most 4096 characters" })
).pipe(Schema.brand("SandboxPath"))
export type SandboxPath = typeof SandboxPath.Type

/** An entry of a directory in a sandbox. */
export class SandboxFile extends Schema.Class<SandboxFile>("SandboxFile")({
  /** Relative to the directory that was listed. */
  path: Schema.String,
  type: Schema.Literals(["file", "directory", "link", "other"]),
  /** Bytes. */
  size: Schema.Int,
  modifiedAt: Schema.DateTimeUtc
}) {}
