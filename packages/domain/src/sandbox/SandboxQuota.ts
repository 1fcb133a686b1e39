import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"

/** The account has its maximum number of live sandboxes. Sandboxes of sessions are counted separately. */
export class SandboxQuotaReached extends Schema.TaggedError<SandboxQuotaReached>()("SandboxQuotaReached", {
  account: AccountId,
  limit: Schema.Int
}) {}
