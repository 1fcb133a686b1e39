/** A temporary copy of the checkout, in which mutants are compiled and tested. */
import { execFileSync, spawn } from "node:child_process"
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync
} from "node:fs"
import { symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"

const prefix = "castellan-mutate-"

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Links the installed packages, except the workspace's own, which the copy has itself. */
const linkModules = (from: string, to: string, root: string) => {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from)) {
    if (name === "@castellan") {
      mkdirSync(join(to, name))
      for (const own of readdirSync(join(from, name))) symlinkSync(join(root, "packages", own), join(to, name, own))
    } else if (name === "castellan") symlinkSync(join(root, "packages", "cli"), join(to, name))
    else if (name !== ".vite" && name !== ".cache") symlinkSync(realpathSync(join(from, name)), join(to, name))
  }
}

export interface Outcome {
  readonly output: string
  readonly code: number | null
  /** Whether it was killed at the deadline. */
  readonly late: boolean
}

export interface Checkout {
  readonly root: string
  readonly read: (file: string) => string
  readonly write: (file: string, text: string) => void
  readonly remove: (file: string) => void
  /** Runs a Node program in the copy; kills it with its children at the deadline. */
  readonly run: (args: ReadonlyArray<string>, deadlineMillis: number) => Promise<Outcome>
}

/** Copies the tracked and untracked, not ignored files. This process removes the copy when it exits, or the next one does. */
export const copyOf = (source: string): Checkout => {
  for (const name of readdirSync(tmpdir()).filter((name) => name.startsWith(prefix))) {
    if (!isAlive(Number(name.slice(prefix.length).split("-")[0]))) rmSync(join(tmpdir(), name), { recursive: true })
  }
  const home = realpathSync(mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`)))
  // Database servers that tests start run as another user.
  chmodSync(home, 0o755)
  const [root, temporary] = [join(home, "c"), join(home, "t")]
  for (const directory of [root, temporary]) mkdirSync(directory)
  const files = execFileSync("git", ["ls-files", "-z", "-co", "--exclude-standard"], { cwd: source, encoding: "utf8" })
  for (const file of files.split("\0")) {
    if (file === "" || !existsSync(join(source, file))) continue
    mkdirSync(dirname(join(root, file)), { recursive: true })
    cpSync(join(source, file), join(root, file))
  }
  for (const folder of [
    "",
    ...["packages", "examples"].flatMap((all) =>
      readdirSync(join(root, all), { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => join(all, name))
    )
  ]) {
    const modules = join(source, folder, "node_modules")
    if (existsSync(modules)) linkModules(modules, join(root, folder, "node_modules"), root)
  }

  const running = new Set<number>()
  const signal = (pid: number, name: NodeJS.Signals) => {
    try {
      process.kill(-pid, name)
    } catch {
      // The process group has already exited.
    }
  }
  process.on("exit", () => {
    for (const pid of running) signal(pid, "SIGKILL")
    rmSync(home, { recursive: true, force: true, maxRetries: 5 })
  })
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => process.exit(130))

  return {
    root,
    read: (file) => readFileSync(join(root, file), "utf8"),
    write: (file, text) => writeFileSync(join(root, file), text),
    remove: (file) => rmSync(join(root, file), { force: true }),
    run: (args, deadlineMillis) =>
      new Promise((resolve) => {
        const env = { ...process.env, TMPDIR: temporary, NO_COLOR: "1" }
        const child = spawn(process.execPath, args, {
          cwd: root,
          detached: true,
          stdio: ["ignore", "pipe", "pipe"],
          env
        })
        const pid = child.pid!
        running.add(pid)
        let [output, late] = ["", false]
        const take = (chunk: Buffer) => (output = (output + chunk.toString()).slice(-1_000_000))
        child.stdout.on("data", take)
        child.stderr.on("data", take)
        const deadline = setTimeout(() => {
          late = true
          signal(pid, "SIGTERM")
          setTimeout(() => signal(pid, "SIGKILL"), 5000)
        }, deadlineMillis)
        child.on("exit", (code) => {
          clearTimeout(deadline)
          // Processes that a test leaves running would disturb the next test.
          signal(pid, "SIGKILL")
          running.delete(pid)
          resolve({ output, code, late })
        })
      })
  }
}
