/** A shell that runs commands one after the other, as a person pastes them into a terminal. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { randomUUID } from "node:crypto"

/** Ends a process and those that it started in its group. Resolves once it has ended. */
export const ended = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  process.kill(-child.pid!, signal)
  await once(child, "exit")
}

/** A process in a group of its own, and all that it has printed. */
export class Program {
  readonly child: ChildProcess
  #printed = ""

  constructor(
    program: string,
    args: ReadonlyArray<string>,
    options: { readonly cwd: string; readonly env: NodeJS.ProcessEnv }
  ) {
    this.child = spawn(program, args, { ...options, detached: true, stdio: ["pipe", "pipe", "pipe"] })
    for (const pipe of [this.child.stdout!, this.child.stderr!]) {
      pipe.setEncoding("utf8").on("data", (chunk: string) => {
        this.#printed += chunk
        this.child.emit("printed")
      })
    }
    this.child.once("exit", () => this.child.emit("printed"))
  }

  get printed(): string {
    return this.#printed
  }

  /** Resolves with what was printed once that fulfils the condition; rejects when the process ends, or after the time. */
  async prints(condition: (printed: string) => boolean, milliseconds: number): Promise<string> {
    const signal = AbortSignal.timeout(milliseconds)
    while (!condition(this.#printed)) {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`It ended too early. It printed:\n${this.#printed}`)
      }
      await once(this.child, "printed", { signal }).catch(() => {
        throw new Error(`It took more than ${milliseconds} ms. It printed:\n${this.#printed}`)
      })
    }
    return this.#printed
  }

  /** Resolves once the process has ended and all that it printed is here. */
  async ends(milliseconds: number): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      await once(this.child, "close", { signal: AbortSignal.timeout(milliseconds) })
    }
  }
}

/** One bash, whose variables stay from one command to the next. */
export class Shell {
  readonly program: Program

  constructor(options: { readonly cwd: string; readonly env: NodeJS.ProcessEnv }) {
    // Both streams go to one pipe, as they go to one terminal.
    this.program = new Program("bash", ["-c", "exec bash --noprofile --norc 2>&1"], options)
  }

  /** Runs one command; gives what it printed. The next command still sees its exit code as `$?`. */
  async run(command: string, milliseconds: number): Promise<string> {
    const mark = randomUUID()
    const before = this.program.printed.length
    const line = `${command}\n{ _code=$?; printf '%s\\n' ${mark.slice(0, 18)}""${mark.slice(18)}; (exit $_code); }\n`
    this.program.child.stdin!.write(line)
    const printed = await this.program.prints((text) => text.includes(`${mark}\n`, before), milliseconds)
    return printed.slice(before, printed.lastIndexOf(mark))
  }
}
