// Type-checked by a user's compiler against the installed packages.
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import type { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { make } from "castellan/embedding/promises.ts"
import * as web from "castellan/embedding/web.ts"
import { contract } from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import * as World from "@castellan/testkit/World.ts"
import { Effect, Redacted } from "effect"

const secret = Redacted.make(new Uint8Array(32))

export const { handler } = await web.make(World.layer, { secret })

const castellan = await make(World.layer, { secret })
const ada = await castellan.as("4c2c5b53-0b0e-4f5c-8f0c-5f2f4f8a9c11")
const made: { readonly sandbox: AccountSandbox } = await ada.sandboxes.create({})
export const status: "pending" | "running" | "stopping" | "stopped" | "failed" = made.sandbox.status

export const settled: Effect.Effect<number, unknown, AccountSandboxes> = Effect.flatMap(
  AccountSandboxes,
  ({ reconcile }) => reconcile
)

// @ts-expect-error `create` takes an object. If this passes, the published types are lost.
await ada.sandboxes.create("a sandbox")

export const layers = [LocalSandbox.layer({ directory: "." }), Db.layerPglite({ directory: "." })] as const
export const held = contract
