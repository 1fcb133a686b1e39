import type { JoinedOrganization } from "@castellan/domain/identity/IdentityStore.ts"
import type { Membership } from "@castellan/domain/identity/Membership.ts"
import { Organizations } from "@castellan/domain/identity/Organizations.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { RequestNonce } from "../api/Idempotent.ts"

const toMember = ({ account, role, status }: Membership) => ({ accountId: account, role, status })

const joinedAs = (status: Membership["status"], all: ReadonlyArray<JoinedOrganization>) =>
  all
    .filter(({ membership }) => membership.status === status)
    .map(({ membership: { role }, organization: { id, name } }) => ({ id, name, role }))

export const OrganizationsHandlers = HttpApiBuilder.group(
  Api,
  "organizations",
  Effect.fn(function* (handlers) {
    const organizations = yield* Organizations

    return handlers.handleAll({
      create: Effect.fnUntraced(function* ({ payload: { name } }) {
        return { organization: yield* organizations.create({ name, nonce: yield* RequestNonce }) }
      }),
      list: () =>
        Effect.map(organizations.list, (all) => ({
          organizations: joinedAs("active", all),
          invitations: joinedAs("invited", all)
        })),
      members: ({ params }) =>
        Effect.map(organizations.members(params.id), (members) => ({ members: members.map(toMember) })),
      invite: ({ params, payload: { accountId, role = null } }) =>
        Effect.map(organizations.invite(params.id, { account: accountId, role }), (member) => ({
          member: toMember(member)
        })),
      accept: ({ params }) => Effect.map(organizations.accept(params.id), (member) => ({ member: toMember(member) })),
      remove: ({ params }) => organizations.remove(params.id, params.accountId)
    })
  })
)
