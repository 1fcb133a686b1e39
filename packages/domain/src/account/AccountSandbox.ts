import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { SandboxStatus } from "../sandbox/Sandbox.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"

/** A sandbox of an account, as it was last seen. */
export class AccountSandbox extends Schema.Class<AccountSandbox>("AccountSandbox")({
  name: SandboxName,
  account: AccountId,
  status: SandboxStatus,
  createdAt: Schema.DateTimeUtc,
  /** When its provider stops it; null until it was made. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Why it stopped or failed, in words for its owner. */
  reason: Schema.NullOr(Schema.String),
  /** When its files were removed from the provider; null while they may be there. */
  removedAt: Schema.NullOr(Schema.DateTimeUtc)
}) {}
