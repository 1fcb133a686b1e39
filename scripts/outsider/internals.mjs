// Modules that no package exports can't be imported from outside.
import assert from "node:assert/strict"

const internals = [
  "@castellan/domain/app/decide.ts",
  "@castellan/domain/app/guest/Script.ts",
  "@castellan/adapters/postgres/Migrations.ts",
  "@castellan/adapters/vercel/Api.ts",
  "@castellan/http/handlers/Sessions.ts",
  "@castellan/testkit/emulators/vercel/state/Sessions.ts",
  "castellan/commands.ts"
]

for (const module of internals) {
  await assert.rejects(import(module), { code: "ERR_PACKAGE_PATH_NOT_EXPORTED" }, module)
}
