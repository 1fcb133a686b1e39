import { Schema } from "effect"

/**
 * The name of a sandbox at its provider: chosen by this server, unique there, and never changed. Up to 64 letters, digits,
 * `-` and `_`, which is valid at every provider and as a file name. On the wire it is `sandboxId`.
 */
export const SandboxName = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/)).pipe(
  Schema.brand("SandboxName")
)
export type SandboxName = typeof SandboxName.Type
