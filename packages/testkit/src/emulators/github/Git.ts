/** Runs `git` in the emulator's repositories, without the user's settings. */
import { spawn } from "node:child_process"

export const environment = {
  PATH: "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
  HOME: "/nonexistent",
  LC_ALL: "C",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_COUNT: "1",
  GIT_CONFIG_KEY_0: "safe.directory",
  GIT_CONFIG_VALUE_0: "*"
}

/** The output of git; undefined if its exit code is not 0. */
export const bytes = (directory: string, ...args: ReadonlyArray<string>): Promise<Buffer | undefined> =>
  new Promise((resolve, reject) => {
    const child = spawn("git", ["--git-dir", directory, ...args], {
      env: environment,
      stdio: ["ignore", "pipe", "ignore"]
    })
    const printed: Array<Buffer> = []
    child.stdout.on("data", (chunk: Buffer) => printed.push(chunk))
    child.on("error", reject)
    child.on("close", (code) => resolve(code === 0 ? Buffer.concat(printed) : undefined))
  })

/** The first NUL-terminated lines of git's output; undefined if git fails. Git stops then, since few small trees can print billions of lines. */
export const lines = (
  directory: string,
  most: number,
  ...args: ReadonlyArray<string>
): Promise<ReadonlyArray<string> | undefined> =>
  new Promise((resolve, reject) => {
    const child = spawn("git", ["--git-dir", directory, ...args], {
      env: environment,
      stdio: ["ignore", "pipe", "ignore"]
    })
    const found: Array<string> = []
    let rest = ""
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      const parts = (rest + chunk).split("\0")
      rest = parts.pop()!
      for (const part of parts) if (found.length < most) found.push(part)
      if (found.length === most) child.kill("SIGKILL")
    })
    child.on("error", reject)
    child.on("close", (code) => resolve(code === 0 || found.length === most ? found : undefined))
  })

export const text = async (directory: string, ...args: ReadonlyArray<string>): Promise<string | undefined> =>
  (await bytes(directory, ...args))?.toString("utf8").replace(/\n$/, "")
