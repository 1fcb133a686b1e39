import { Schema } from "effect"
import { AccountId } from "./Account.ts"

/** What an account may do in an organization: owners everything, admins all but what concerns owners. */
export const Role = Schema.Literals(["owner", "admin", "member"])
export type Role = typeof Role.Type

/** An invited account is no member until it accepts. */
export const MembershipStatus = Schema.Literals(["active", "invited"])
export type MembershipStatus = typeof MembershipStatus.Type

/** An account's place in an organization, which is an account too. */
export class Membership extends Schema.Class<Membership>("Membership")({
  organization: AccountId,
  account: AccountId,
  role: Role,
  status: MembershipStatus,
  /** When the account was invited, or added. */
  createdAt: Schema.DateTimeUtc
}) {}
