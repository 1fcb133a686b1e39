import { Schema } from "effect"

/** The id of an owner of sandboxes and sessions: a person, a service or an organization. */
export const AccountId = Schema.String.check(Schema.isUUID(undefined, { message: "must be a valid UUID" })).pipe(
  Schema.brand("AccountId")
)
export type AccountId = typeof AccountId.Type

/** The canonical spelling of an id; clients may send capitals. */
export const inLowerCase = (id: AccountId): AccountId => AccountId.make(id.toLowerCase())

/** An account. Platform admins may act for every account. */
export class Account extends Schema.Class<Account>("Account")({
  id: AccountId,
  name: Schema.NullOr(Schema.String),
  email: Schema.NullOr(Schema.String),
  platformAdmin: Schema.Boolean,
  createdAt: Schema.DateTimeUtc
}) {}
