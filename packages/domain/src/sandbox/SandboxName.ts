import { Schema } from "effect"

/**
 * What a sandbox is called at its provider: ours to choose, unique there, and the same for its whole life.
 * Letters, digits, `-` and `_`, 64 at most, which every provider and a file name can hold. On the wire it is `sandboxId`.
 */
export const SandboxName = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/)).pipe(
  Schema.brand("SandboxName")
)
export type SandboxName = typeof SandboxName.Type
