/** `castellan admin-key`: replaces the platform admin's key in the server's database, without the server. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { ExitCode } from "../ExitCode.ts"
import { DataUnavailable, UsageRefused } from "../client/Failure.ts"
import * as Output from "../output/Output.ts"

export const adminKey = Command.make(
  "admin-key",
  {
    reset: Flag.Boolean("reset").pipe(
      Flag.withDescription("Make a new key, and revoke the key of the first start and those of earlier resets"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ reset }) {
    if (!reset)
      return yield* new UsageRefused({ say: "an existing key can't be shown again: use --reset to make a new one" })
    // Imported here, because no other command needs the database adapter.
    const AdminKey = yield* Effect.promise(() => import("@castellan/http/server/AdminKey.ts"))
    const { issued, kept } = yield* AdminKey.reset.pipe(
      Effect.catchTags({
        InvalidConfig: ({ message }) => new UsageRefused({ say: message }),
        DatabaseNotReady: ({ message }) => new DataUnavailable({ say: message, exit: ExitCode.unreachable }),
        PlatformAdminMissing: () =>
          new DataUnavailable({
            say: "no server has used this database yet: start one, which prints a key at its first start",
            exit: ExitCode.notFound
          }),
        ServerRunning: ({ directory }) =>
          new DataUnavailable({
            say: `a server or another reset uses ${directory}: stop the server, then reset the key`,
            exit: ExitCode.conflict
          })
      })
    )
    const key = Redacted.value(issued.secret)
    const { id, name } = issued.key
    yield* Output.print((yield* Output.isForProgram) ? `${JSON.stringify({ id, name, key })}\n` : `${key}\n`)
    yield* Output.say(
      "this is the platform admin's new key, shown only once; the first key and earlier reset keys are revoked"
    )
    if (kept.length > 0) {
      const named = kept.map(({ id, name }) => `${id} (${name})`).join(", ")
      yield* Output.say(
        `other keys of the platform admin are still valid; \`castellan keys delete\` revokes them: ${named}`
      )
    }
  })
).pipe(
  Command.withDescription(
    "Replace the platform admin's key in the server's database. Without DATABASE_URL the server must be stopped. Needs the server's environment and working directory, but no API key"
  ),
  Command.withExamples([{ command: "CASTELLAN_DATA_DIR=/var/lib/castellan castellan admin-key --reset" }])
)
