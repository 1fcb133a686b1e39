// Starts the server as a new user does: from the tracked files only, with an empty home directory and package store, on the
// oldest Node that `engines` allows and on the newest one on npm. Needs the package registry.
import { execFile, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { cpSync, linkSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const { engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const major = Number(/\d+/.exec(engines.node)[0])

/** Each Node with the npm that it ships with. */
const oldest = { name: `Node ${major}.0.0`, node: `${major}.0.0`, npm: "8.6.0" }
const newest = { name: "the newest Node", node: "latest", npm: "latest" }
const tooOld = { name: "Node 10", node: "10.24.1", npm: "6.14.12" }

const directory = mkdtempSync(join(tmpdir(), "castellan-start-"))
const running = new Set()
process.on("exit", () => {
  for (const { pid } of running) {
    try {
      process.kill(-pid, "SIGKILL")
    } catch (cause) {
      if (cause.code !== "ESRCH") throw cause
    }
  }
  rmSync(directory, { recursive: true, force: true })
})

const run = promisify(execFile)
const setting = async (name) => (await run("npm", ["config", "get", name], { cwd: directory })).stdout.trim()
const [registry, cafile] = await Promise.all(["registry", "cafile"].map(setting))

/** The variables of the environment that reaching the registry needs, and no others. */
const network = Object.fromEntries(
  Object.entries({
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => /_proxy$|CA_CERTS$|^SSL_CERT_/i.test(name))),
    npm_config_registry: registry,
    pnpm_config_registry: registry,
    npm_config_cafile: cafile
  }).filter(([, value]) => value !== "" && value !== "null")
)

let failed = 0
const check = (name, problems) => {
  console.log(`${problems.length === 0 ? "ok    " : "FAILED"} ${name}`)
  if (problems.length === 0) return
  failed++
  console.log(problems.join("\n"))
}

/** Installs a Node with its npm in the usual layout and returns the folder of its programs. */
const provided = async ({ node, npm }) => {
  const prefix = mkdtempSync(join(directory, "node-"))
  const name = `node-${process.platform}-${process.arch}`
  const quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error", "--prefer-offline"]
  await run("npm", ["install", "--prefix", prefix, ...quiet, `${name}@${node}`, `npm@${npm}`], { cwd: prefix })
  const programs = join(prefix, "bin")
  mkdirSync(programs)
  mkdirSync(join(prefix, "lib", "node_modules"), { recursive: true })
  linkSync(join(prefix, "node_modules", name, "bin", "node"), join(programs, "node"))
  renameSync(join(prefix, "node_modules", "npm"), join(prefix, "lib", "node_modules", "npm"))
  for (const program of ["npm", "npx"]) {
    symlinkSync(`../lib/node_modules/npm/bin/${program}-cli.js`, join(programs, program))
  }
  return programs
}

/** A clone without installed dependencies, and functions to run programs in it. */
const newUser = async (version) => {
  const programs = await provided(version)
  const home = mkdtempSync(join(directory, "home-"))
  const cwd = mkdtempSync(join(directory, "clone-"))
  const tracked = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" }).split("\0").filter(Boolean)
  for (const file of tracked) {
    mkdirSync(dirname(join(cwd, file)), { recursive: true })
    cpSync(join(root, file), join(cwd, file), { verbatimSymlinks: true })
  }
  return (command, args, env = {}) => {
    const child = spawn(command, args, {
      cwd,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { HOME: home, PATH: `${programs}:/usr/bin:/bin`, PORT: "0", ...network, ...env }
    })
    running.add(child)
    const said = { stdout: "", stderr: "" }
    for (const pipe of ["stdout", "stderr"]) child[pipe].setEncoding("utf8").on("data", (text) => (said[pipe] += text))
    const ended = once(child, "close").then(([code, signal]) => (running.delete(child), code ?? signal))
    const until = async (pattern) => {
      while (!pattern.test(said.stdout + said.stderr) && running.has(child)) await setTimeout(50)
      return pattern.exec(said.stdout + said.stderr)
    }
    const signal = (name) => process.kill(-child.pid, name)
    return { said, ended, until, signal, all: () => said.stdout + said.stderr }
  }
}

// npm 12 prints the script that it runs as a notice.
const warnings = (text) =>
  text
    .split("\n")
    .filter((line) => /\bwarn|\bnotice\b|deprecated|ignored build/i.test(line) && !line.startsWith("npm notice run "))

/** The problems of a server that `npm start` started. */
const problemsOf = async (server) => {
  const url = (await server.until(/listens on (\S+)[^]*sandboxes {2}/))?.[1]
  if (url === undefined) return [`it exited with ${await server.ended}`, server.all()]
  const { status } = await fetch(`${url}/health`)
  server.signal("SIGINT")
  const code = await server.ended
  return [
    ...(status === 200 ? [] : [`/health returns ${status}`]),
    ...(code === 0 || code === 130 ? [] : [`it exits with ${code}`, server.all()]),
    ...warnings(server.all())
  ]
}

const startsOn = async (version) => {
  const user = await newUser(version)

  const killed = user("node", ["scripts/install.cjs"])
  await killed.until(/Progress: resolved/)
  killed.signal("SIGKILL")
  await killed.ended
  check(
    `${version.name}: an installation shows its progress`,
    /Progress/.test(killed.said.stderr) ? [] : [killed.all()]
  )

  const [first, beside] = [user("npm", ["start"]), user("node", ["scripts/install.cjs"])]
  check(
    `${version.name}: the server starts without a warning after an installation that was killed`,
    await problemsOf(first)
  )
  check(
    `${version.name}: two installations at the same time both succeed`,
    (await beside.ended) === 0 ? warnings(beside.all()) : [beside.all()]
  )

  const nowhere = "http://127.0.0.1:9/"
  const offline = user("npm", ["start"], { npm_config_registry: nowhere, pnpm_config_registry: nowhere })
  check(`${version.name}: the server starts again without the registry`, await problemsOf(offline))
  check(
    `${version.name}: a second start installs nothing`,
    /Fetching|Installing/.test(offline.all()) ? [offline.all()] : []
  )
}

const refuses = async (version) => {
  const start = (await newUser(version))("npm", ["start"])
  const code = await start.ended
  const sentence = `Castellan needs Node ${major} or newer to start; this is Node ${version.node}.`
  check(
    `${version.name}: is rejected with a message`,
    code !== 0 && start.all().includes(sentence) ? [] : [start.all()]
  )
}

await Promise.all([startsOn(oldest), startsOn(newest), refuses(tooOld)])
process.exit(failed === 0 ? 0 : 1)
