// Uses the adapters with processes and a database from the installed packages: a command without isolation.
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { command, make } from "castellan/embedding/promises.ts"
import { Layer, Redacted } from "effect"

const data = mkdtempSync(join(tmpdir(), "castellan-outsider-"))
const ports = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
  Layer.provide(Db.layerPglite({ directory: join(data, "postgres") })),
  Layer.merge(LocalSandbox.layer({ directory: join(data, "local"), isolation: "none" })),
  Layer.merge(LocalRepos.layer({ directory: join(data, "repositories") }))
)

const castellan = await make(ports, { secret: Redacted.make(new Uint8Array(32)) })
try {
  const ada = await castellan.as((await castellan.createAccount({ name: "Ada" })).id)
  const { sandbox } = await ada.sandboxes.create({})
  const run = await ada.sandboxes.run(sandbox.name, command("sh", ["-c", "echo from a sandbox"]))
  let printed = ""
  for await (const event of ada.runs.log(run.id, OutputPosition.start)) {
    if (event._tag === "Printed") printed += event.output.text
  }
  assert.equal(printed, "from a sandbox\n")
  await ada.sandboxes.remove(sandbox.name)
} finally {
  await castellan.dispose()
  rmSync(data, { recursive: true, force: true })
}
