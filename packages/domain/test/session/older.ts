/** Sessions of earlier versions, which had the working tree in the home directory. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { workspace } from "@castellan/domain/repo/Checkout.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Lifecycle, Session, type SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { DateTime, Duration, Effect, Option, Stream } from "effect"

/** Moves the files of an open session to the home directory of its sandbox, and changes its row accordingly. */
export const makeOlder = Effect.fnUntraced(function* (scope: AccountScope, id: SessionId) {
  const provider = yield* SandboxProvider
  const store = yield* SessionStore
  const session = Option.getOrThrow(yield* store.get(scope, id))
  const name = session.lifecycle.sandbox!
  const { files: found } = yield* provider.listFiles(name, SandboxPath.make(workspace), { depth: 64, limit: 1000 })
  const files = yield* Effect.forEach(
    found.filter(({ type }) => type === "file"),
    ({ path }) =>
      Effect.map(Stream.runCollect(provider.readFile(name, SandboxPath.make(`${workspace}/${path}`))), (chunks) => ({
        path: SandboxPath.make(path),
        chunks
      }))
  )
  yield* provider.remove(name)
  const { incarnation } = yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(30) })
  for (const { chunks, path } of files) yield* provider.writeFile(name, path, Stream.fromIterable(chunks))
  const lifecycle = new Lifecycle({ ...session.lifecycle, incarnation, workspace: false })
  yield* store.remove(scope, session, yield* DateTime.now)
  yield* store.add(scope, new Session({ ...session, lifecycle }))
  return name
})
