/** `castellan keys`: creates, lists and revokes API keys. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { ask } from "../client/Client.ts"
import { account, id, text } from "../flags.ts"
import * as Output from "../output/Output.ts"
import { orNone } from "../client/pages.ts"
import { fields, table } from "../output/Table.ts"

const create = Command.make(
  "create",
  {
    name: Argument.String("NAME").pipe(Argument.withDescription("A name for the key")),
    expiresAt: text("expires-at", "TIME", "When it expires, such as 2027-01-31T12:00:00Z; never if left out"),
    account
  },
  Effect.fnUntraced(function* ({ account, expiresAt, name }) {
    const body = { name, expiresAt, account_id: account }
    const answer = yield* ask("keys.issue", { body })
    yield* Output.present(answer, ({ expiresAt, id, key, name }) =>
      fields({ id, name, expires: expiresAt ?? "never", key })
    )
    yield* Output.say("the key is shown only once")
  })
).pipe(
  Command.withDescription("Create an API key"),
  Command.withExamples([{ command: "castellan keys create ci --expires-at 2027-01-31T12:00:00Z" }])
)

const list = Command.make(
  "list",
  { account },
  Effect.fnUntraced(function* ({ account }) {
    const answer = yield* ask("keys.list", { query: { account_id: account } })
    yield* Output.present(answer, ({ keys }) =>
      table(
        ["KEY", "NAME", "CREATED", "LAST USED", "EXPIRES"],
        keys.map((key) => [key.id, key.name, key.createdAt, key.lastUsedAt ?? "never", key.expiresAt ?? "never"])
      )
    )
    yield* orNone("keys", answer.json.keys)
  })
).pipe(
  Command.withDescription("List API keys; the keys themselves can't be shown again"),
  Command.withExamples([{ command: "castellan keys list" }])
)

const remove = Command.make(
  "delete",
  { id: id("ID", "The key's id, as shown by `keys list`"), account },
  Effect.fnUntraced(function* ({ account, id }) {
    const answer = yield* ask("keys.revoke", { params: { id }, query: { account_id: account } })
    yield* Output.present(answer, () => `${id} is deleted`)
  })
).pipe(
  Command.withDescription("Revoke an API key at once"),
  Command.withExamples([{ command: "castellan keys delete key_0fv3m2p4c8" }])
)

export const keys = Command.make("keys").pipe(
  Command.withDescription("Create, list and revoke API keys"),
  Command.withExamples([{ command: "castellan keys create ci" }]),
  Command.withSubcommands([create, list, remove])
)
