import { Schema } from "effect"
import { AccountId } from "./Account.ts"

/** Owners may do everything in an organization, admins everything that does not affect owners. */
export const Role = Schema.Literals(["owner", "admin", "member"])
export type Role = typeof Role.Type

/** An invited account becomes an active member when it accepts. */
export const MembershipStatus = Schema.Literals(["active", "invited"])
export type MembershipStatus = typeof MembershipStatus.Type

/** The membership of an account in an organization, which is an account too. */
export class Membership extends Schema.Class<Membership>("Membership")({
  organization: AccountId,
  account: AccountId,
  role: Role,
  status: MembershipStatus,
  /** When the account was invited or added. */
  createdAt: Schema.DateTimeUtc
}) {}
