/** A shell that runs commands one after another, like a person who pastes them into a terminal. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { randomUUID } from "node:crypto"

/** Kills a process and its process group. Resolves once the process has exited. */
export const ended = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  process.kill(-child.pid!, signal)
  await once(child, "exit")
}

/** A process in a process group of its own, and its output so far. */
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

  /** Resolves with the output once it fulfills the condition. Rejects when the process exits or the time is up. */
  async prints(condition: (printed: string) => boolean, milliseconds: number): Promise<string> {
    const signal = AbortSignal.timeout(milliseconds)
    while (!condition(this.#printed)) {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`The process exited too early. Its output:\n${this.#printed}`)
      }
      await once(this.child, "printed", { signal }).catch(() => {
        throw new Error(`The process took more than ${milliseconds} ms. Its output:\n${this.#printed}`)
      })
    }
    return this.#printed
  }

  /** Resolves once the process has exited and all its output has arrived. */
  async ends(milliseconds: number): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      await once(this.child, "close", { signal: AbortSignal.timeout(milliseconds) })
    }
  }
}

/** One bash process, which keeps its variables between commands. */
export class Shell {
  readonly program: Program

  constructor(options: { readonly cwd: string; readonly env: NodeJS.ProcessEnv }) {
    // Both streams go to one pipe, as in a terminal.
    this.program = new Program("bash", ["-c", "exec bash --noprofile --norc 2>&1"], options)
  }

  /** Runs one command and returns its output. The next command sees its exit code as `$?`. */
  async run(command: string, milliseconds: number): Promise<string> {
    const mark = randomUUID()
    const before = this.program.printed.length
    const line = `${command}\n{ _code=$?; printf '%s\\n' ${mark.slice(0, 18)}""${mark.slice(18)}; (exit $_code); }\n`
    this.program.child.stdin!.write(line)
    const printed = await this.program.prints((text) => text.includes(`${mark}\n`, before), milliseconds)
    return printed.slice(before, printed.lastIndexOf(mark))
  }
}
