/** An example service: runs a project's checks in a sandbox and returns the outcome. */
import { SandboxNotCreated } from "@castellan/domain/account/AccountSandboxes.ts"
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { CommandRunOutput } from "@castellan/domain/task/CommandRun.ts"
import { command, type Promises } from "castellan/embedding/promises.ts"
import { Schema } from "effect"

const isOutput = Schema.is(CommandRunOutput)

/** The outcome of a check. */
export interface Outcome {
  readonly verdict: "passed" | "failed" | "no sandbox"
  readonly output: string
}

/** Writes the files into a new sandbox of the account, runs the program and removes the sandbox. */
export const check = async (
  castellan: Promises,
  account: string,
  files: Readonly<Record<string, string>>,
  program: readonly [string, ...ReadonlyArray<string>]
): Promise<Outcome> => {
  const { runs, sandboxes } = await castellan.as(account)
  try {
    const { sandbox } = await sandboxes.create({})
    try {
      for (const [path, text] of Object.entries(files)) {
        await sandboxes.writeFile(sandbox.name, SandboxPath.make(path), new TextEncoder().encode(text))
      }
      const [name, ...args] = program
      const run = await sandboxes.run(sandbox.name, command(name, args, { timeout: "5 minutes" }))
      let output = ""
      let verdict: Outcome["verdict"] = "failed"
      for await (const event of runs.log(run.id, OutputPosition.start)) {
        if (event._tag === "Printed") output += event.output.text
        else if (isOutput(event.run.output) && event.run.output.exitCode === 0) verdict = "passed"
      }
      return { verdict, output }
    } finally {
      await sandboxes.remove(sandbox.name)
    }
  } catch (failure) {
    if (failure instanceof SandboxNotCreated && failure.reason.retryAfterMs !== null)
      return { verdict: "no sandbox", output: "" }
    throw failure
  }
}
