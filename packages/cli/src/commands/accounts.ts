/** `castellan accounts`: creates accounts and lists those with sandboxes. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { ask } from "../client/Client.ts"
import { page, text } from "../flags.ts"
import * as Output from "../output/Output.ts"
import { orNone, pages } from "../client/pages.ts"
import { fields, table } from "../output/Table.ts"

const create = Command.make(
  "create",
  { name: text("name", "NAME", "The account's name"), email: text("email", "ADDRESS", "The account's e-mail address") },
  Effect.fnUntraced(function* (body) {
    const answer = yield* ask("accounts.create", { body })
    yield* Output.present(answer, ({ account: { createdAt, email, id, name } }) =>
      fields({ account: id, name, email, created: createdAt })
    )
  })
).pipe(
  Command.withDescription("Create an account (platform admins only)"),
  Command.withExamples([{ command: "castellan accounts create --name Ada --email ada@example.com" }])
)

const list = Command.make(
  "list",
  page,
  Effect.fnUntraced(function* ({ all, limit }) {
    const answer = yield* pages("admins.sandboxes", "accounts", { query: {}, limit, all })
    yield* Output.present(answer, ({ accounts }) =>
      table(
        ["ACCOUNT", "EMAIL", "SANDBOXES", "LAST CREATED"],
        accounts.map((one) => [one.account_id, one.account_email, one.total_sandboxes, one.last_created_at])
      )
    )
    yield* orNone("accounts with sandboxes", answer.json.accounts)
  })
).pipe(
  Command.withDescription("List accounts that have sandboxes, with their number (platform admins only)"),
  Command.withExamples([{ command: "castellan accounts list --all" }])
)

export const accounts = Command.make("accounts").pipe(
  Command.withDescription("Create and list accounts"),
  Command.withExamples([{ command: "castellan accounts create --name Ada" }]),
  Command.withSubcommands([create, list])
)
