/** `castellan orgs`: manages organizations and their members. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { ask } from "../client/Client.ts"
import { id } from "../flags.ts"
import * as Output from "../output/Output.ts"
import { orNone } from "../client/pages.ts"
import { fields, table } from "../output/Table.ts"
import type { ResponseOf } from "../client/Operations.ts"

const org = id("ORG", "The organization's id")
const account = id("ACCOUNT", "The account's id")

const shownMember = ({ member: { accountId, role, status } }: ResponseOf<"organizations.invite">): string =>
  fields({ account: accountId, role, status })

const create = Command.make(
  "create",
  { name: Argument.String("NAME").pipe(Argument.withDescription("The organization's name")) },
  Effect.fnUntraced(function* (body) {
    const answer = yield* ask("organizations.create", { body })
    yield* Output.present(answer, ({ organization: { id, name } }) => fields({ organization: id, name }))
  })
).pipe(
  Command.withDescription("Create an organization; your account becomes its owner"),
  Command.withExamples([{ command: "castellan orgs create 'Analytical Engines'" }])
)

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function* () {
    const answer = yield* ask("organizations.list")
    const { invitations, organizations } = answer.json
    yield* Output.present(answer, () =>
      table(
        ["ORGANIZATION", "NAME", "ROLE", "STATUS"],
        [
          ...organizations.map(({ id, name, role }) => [id, name, role, "active"]),
          ...invitations.map(({ id, name, role }) => [id, name, role, "invited"])
        ]
      )
    )
    yield* orNone("organizations", [...organizations, ...invitations])
  })
).pipe(
  Command.withDescription("List the organizations that your account is a member of or invited to"),
  Command.withExamples([{ command: "castellan orgs list" }])
)

const members = Command.make(
  "members",
  { org },
  Effect.fnUntraced(function* ({ org }) {
    const answer = yield* ask("organizations.members", { params: { id: org } })
    yield* Output.present(answer, ({ members }) =>
      table(
        ["ACCOUNT", "ROLE", "STATUS"],
        members.map(({ accountId, role, status }) => [accountId, role, status])
      )
    )
  })
).pipe(
  Command.withDescription("List the members of an organization, and the accounts that are invited"),
  Command.withExamples([{ command: "castellan orgs members 7d0c1f6e-5a0b-4c9d-8f21-3b6a9e2d4c10" }])
)

const invite = Command.make(
  "invite",
  {
    org,
    account,
    role: Flag.Literals("role", ["member", "admin", "owner"]).pipe(
      Flag.withDescription("The account's role; member if left out"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ account, org, role }) {
    const body = { accountId: account, role: Option.getOrUndefined(role) }
    const answer = yield* ask("organizations.invite", { params: { id: org }, body })
    yield* Output.present(answer, shownMember)
    if (answer.json.member.status === "invited") {
      yield* Output.say(`the account accepts, with its own key, by: castellan orgs accept ${org}`)
    }
  })
).pipe(
  Command.withDescription("Invite an account to an organization"),
  Command.withExamples([
    {
      command:
        "castellan orgs invite 7d0c1f6e-5a0b-4c9d-8f21-3b6a9e2d4c10 da2f6075-60c8-49bb-b2a7-13ce63db84d2 --role admin"
    }
  ])
)

const accept = Command.make(
  "accept",
  { org },
  Effect.fnUntraced(function* ({ org }) {
    const answer = yield* ask("organizations.accept", { params: { id: org } })
    yield* Output.present(answer, shownMember)
  })
).pipe(
  Command.withDescription("Accept an invitation to an organization"),
  Command.withExamples([{ command: "castellan orgs accept 7d0c1f6e-5a0b-4c9d-8f21-3b6a9e2d4c10" }])
)

const remove = Command.make(
  "remove",
  { org, account },
  Effect.fnUntraced(function* ({ account, org }) {
    const answer = yield* ask("organizations.remove", { params: { id: org, accountId: account } })
    yield* Output.present(answer, () => `${account} is no longer a member`)
  })
).pipe(
  Command.withDescription("Remove an account from an organization, or leave it"),
  Command.withExamples([
    {
      command: "castellan orgs remove 7d0c1f6e-5a0b-4c9d-8f21-3b6a9e2d4c10 da2f6075-60c8-49bb-b2a7-13ce63db84d2"
    }
  ])
)

export const orgs = Command.make("orgs").pipe(
  Command.withDescription("Manage organizations and their members"),
  Command.withExamples([{ command: "castellan orgs create 'Analytical Engines'" }]),
  Command.withSubcommands([create, list, members, invite, accept, remove])
)
