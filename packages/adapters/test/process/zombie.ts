import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** The id of a process with that name that is a zombie until the scope closes. */
export const zombie = (program = "sleep") =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "castellan-zombie-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
    )
    const file = join(directory, program)
    symlinkSync("/bin/sleep", file)
    // The shell becomes another program, which does not know of its child. A child that ended earlier would be reaped.
    const parent = yield* Effect.acquireRelease(
      Effect.sync(() => spawn("sh", ["-c", '"$0" 600 & echo $!; exec sleep 600', file])),
      (parent) => Effect.sync(() => void parent.kill("SIGKILL"))
    )
    const [line] = yield* Effect.promise(() => once(parent.stdout, "data"))
    const pid = Number(line)
    while (readFileSync(`/proc/${parent.pid}/comm`, "utf8") !== "sleep\n") yield* Effect.sleep("5 millis")
    process.kill(pid, "SIGKILL")
    while (!/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))) yield* Effect.sleep("5 millis")
    return pid
  })
