/** The contract of SandboxProvider: what every provider of sandboxes guarantees. */
import type { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Layer } from "effect"
import type { Compile } from "../../Program.ts"
import { type ContractOptions, runContract } from "../contract.ts"
import { creation } from "./creation.ts"
import { lifetime } from "./lifetime.ts"
import { hibernation } from "./hibernation.ts"
import { snapshots } from "./snapshots.ts"
import { commands } from "./commands.ts"
import { output } from "./output.ts"
import { termination } from "./termination.ts"
import { files } from "./files.ts"
import { listing } from "./listing.ts"
import { connections } from "./connections.ts"

/** The clauses by topic; `compile` writes the programs that they run in a sandbox. */
export const topics = (compile: Compile) => ({
  creation: creation(compile),
  lifetime,
  hibernation: hibernation(compile),
  snapshots: snapshots(compile),
  commands: commands(compile),
  output: output(compile),
  termination: termination(compile),
  files: files(compile),
  listing,
  connections: connections(compile)
})

export type Topic = keyof ReturnType<typeof topics>

export const contract = <E>(
  subject: string,
  layer: Layer.Layer<SandboxProvider, E>,
  compile: Compile,
  options?: ContractOptions<Topic>
) => runContract("SandboxProvider", subject, layer, topics(compile), options)
