import { AccountId } from "@castellan/domain/identity/Account.ts"
import { MembershipStatus, Role } from "@castellan/domain/identity/Membership.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { field, optional, Text } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { Statuses } from "../Statuses.ts"

const NewOrganization = Schema.Struct({
  name: field(
    Text.check(Schema.isMaxLength(200, { message: "must be at most 200 characters" })),
    "A name for people, 1 to 200 characters."
  )
})

const id = field(AccountId, "The id of the organization, which is an account.")
const name = field(Schema.NullOr(Schema.String), "Its name; null if it has none.")

const Joined = Schema.Struct({ id, name, role: field(Role, "The caller's role in it.") })

const Member = Schema.Struct({
  accountId: field(AccountId, "The account of the member."),
  role: field(Role, "The member's role."),
  status: field(MembershipStatus, "`active`, or `invited` until the account accepts.")
}).annotate({ identifier: "Member", description: "A membership in an organization." })

const Invitation = Schema.Struct({
  accountId: field(AccountId, "The account to invite, or the member to change."),
  role: optional(
    Role.annotate({ message: "must be owner, admin or member" }),
    "The role. Default: the member's current role, or `member` for a new one."
  )
})

const params = { id }

/** Organizations and their members. */
export class OrganizationsApi extends HttpApiGroup.make("organizations")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewOrganization,
      success: Schema.Struct({
        organization: field(Schema.Struct({ id, name }), "The new organization.")
      }).pipe(HttpApiSchema.status(201))
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Create an organization",
          description: "The caller becomes its owner."
        })
      ),
    HttpApiEndpoint.get("list", "/", {
      success: Schema.Struct({
        organizations: field(Schema.Array(Joined), "The organizations that the caller is a member of."),
        invitations: field(Schema.Array(Joined), "The organizations that have invited the caller.")
      })
    }).annotateMerge(
      OpenApi.annotations({
        summary: "List organizations",
        description: "Lists the organizations of the caller and the invitations that it may accept."
      })
    ),
    HttpApiEndpoint.get("members", "/:id/members", {
      params,
      success: Schema.Struct({ members: field(Schema.Array(Member), "Active and invited members.") }),
      error: [Statuses.OrganizationNotFound]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "List members",
        description: "Lists the members of an organization. Only for its active members."
      })
    ),
    HttpApiEndpoint.post("invite", "/:id/members", {
      params,
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
      .annotateMerge(
        OpenApi.annotations({
          summary: "Invite an account, or change a member's role",
          description:
            "Only for owners and admins. The account is invited until it accepts; an invitation by a platform admin is active at once."
        })
      ),
    HttpApiEndpoint.post("accept", "/:id/members/accept", {
      params,
      success: Schema.Struct({ member: Member }),
      error: [Statuses.OrganizationNotFound]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Accept an invitation",
        description: "The caller becomes an active member."
      })
    ),
    HttpApiEndpoint.delete("remove", "/:id/members/:accountId", {
      params: { ...params, accountId: field(AccountId, "The account of the member.") },
      success: HttpApiSchema.NoContent,
      error: [Statuses.RoleNotPermitted, Statuses.OrganizationNotFound, Statuses.LastOwner]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Remove a member, withdraw an invitation, or leave",
        description: "For owners and admins, and for the member itself. The last owner can't leave."
      })
    )
  )
  .prefix("/api/organizations")
  .annotate(OpenApi.Title, "Organizations") {}
