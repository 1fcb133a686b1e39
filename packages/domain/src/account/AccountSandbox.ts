import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { SandboxStatus } from "../sandbox/Sandbox.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"

/** A sandbox of an account, in its last observed state. */
export class AccountSandbox extends Schema.Class<AccountSandbox>("AccountSandbox")({
  name: SandboxName,
  account: AccountId,
  status: SandboxStatus,
  createdAt: Schema.DateTimeUtc,
  /** When the provider stops it; null until the provider has created it. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Why it stopped or failed, as a sentence for its owner. */
  reason: Schema.NullOr(Schema.String),
  /** When its files were removed from the provider; null while they may still exist. */
  removedAt: Schema.NullOr(Schema.DateTimeUtc)
}) {}
