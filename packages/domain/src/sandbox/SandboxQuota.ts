import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"

/** The account has as many live sandboxes as it may have: of its own, or of sessions, which are counted apart. */
export class SandboxQuotaReached extends Schema.TaggedError<SandboxQuotaReached>()("SandboxQuotaReached", {
  account: AccountId,
  limit: Schema.Int
}) {}
