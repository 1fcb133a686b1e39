import { AccountId } from "@castellan/domain/identity/Account.ts"
import { MembershipStatus, Role } from "@castellan/domain/identity/Membership.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { absent, Text } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"

import { Statuses } from "../Statuses.ts"

const NewOrganization = Schema.Struct({
  name: Text.check(Schema.isMaxLength(200, { message: "must be at most 200 characters" }))
})

const Joined = Schema.Struct({ id: AccountId, name: Schema.NullOr(Schema.String), role: Role })

const Member = Schema.Struct({ accountId: AccountId, role: Role, status: MembershipStatus }).annotate({
  identifier: "Member"
})

const Invitation = Schema.Struct({
  accountId: AccountId,
  /** The role it has, or `member`, if this is left out. */
  role: absent(Role.annotate({ message: "must be owner, admin or member" }))
})

const organization = { id: AccountId }

/** Organizations and who is in them. */
export class OrganizationsApi extends HttpApiGroup.make("organizations")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewOrganization,
      success: Schema.Struct({
        organization: Schema.Struct({ id: AccountId, name: Schema.NullOr(Schema.String) })
      }).pipe(HttpApiSchema.status(201))
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Make an organization and own it"),
    HttpApiEndpoint.get("list", "/", {
      success: Schema.Struct({
        organizations: Schema.Array(Joined),
        /** What the caller may accept. */
        invitations: Schema.Array(Joined)
      })
    }).annotate(OpenApi.Summary, "List the organizations one is in, and one's invitations"),
    HttpApiEndpoint.get("members", "/:id/members", {
      params: organization,
      success: Schema.Struct({ members: Schema.Array(Member) }),
      error: [Statuses.OrganizationNotFound]
    }).annotate(OpenApi.Summary, "List the members of an organization"),
    HttpApiEndpoint.post("invite", "/:id/members", {
      params: organization,
      payload: Invitation,
      success: Schema.Struct({ member: Member }).pipe(HttpApiSchema.status(201)),
      error: [
        Statuses.OrganizationCannotJoinItself,
        Statuses.RoleNotPermitted,
        Statuses.OrganizationNotFound,
        Statuses.AccountUnknown,
        Statuses.LastOwner
      ]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Invite an account, or give a member another role"),
    HttpApiEndpoint.post("accept", "/:id/members/accept", {
      params: organization,
      success: Schema.Struct({ member: Member }),
      error: [Statuses.OrganizationNotFound]
    }).annotate(OpenApi.Summary, "Accept an invitation"),
    HttpApiEndpoint.delete("remove", "/:id/members/:accountId", {
      params: { ...organization, accountId: AccountId },
      success: HttpApiSchema.NoContent,
      error: [Statuses.RoleNotPermitted, Statuses.OrganizationNotFound, Statuses.LastOwner]
    }).annotate(OpenApi.Summary, "Remove a member, take an invitation back, or leave")
  )
  .prefix("/api/organizations")
  .annotate(OpenApi.Title, "Organizations") {}
