/** The `git` program for the emulator's own repositories: an argument vector, and none of the user's settings. */
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

/** What git printed; undefined where it did not end with 0. */
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

export const text = async (directory: string, ...args: ReadonlyArray<string>): Promise<string | undefined> =>
  (await bytes(directory, ...args))?.toString("utf8").replace(/\n$/, "")
