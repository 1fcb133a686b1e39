// Builds the packages and checks them as users get them: packed, installed elsewhere, and run on a Node that cannot strip types.
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { targetOf } from "./publicModules.ts"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const packages = ["domain", "testkit", "adapters", "http", "cli"]

/** The oldest Node that the packages support. The newest is the pinned one. */
const oldestNode = "22.22.2"

const bin = (name) => join(root, "node_modules", ".bin", name)
const readJson = (file) => JSON.parse(readFileSync(file, "utf8"))

let failed = 0
const check = (name, cwd, [command, ...args], isFine = ({ status }) => status === 0) => {
  const { error, status, stderr, stdout } = spawnSync(command, args, { cwd, encoding: "utf8", maxBuffer: 1 << 28 })
  const output = `${stdout ?? ""}${stderr ?? ""}${error ?? ""}`
  const fine = isFine({ status, output })
  console.log(`${fine ? "ok    " : "FAILED"} ${name}`)
  if (!fine) {
    failed++
    console.log(output)
  }
  return fine
}

/** The entry points of a built package. */
const entryPoints = (lib, { exports }) =>
  readdirSync(lib, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".js"))
    .map((file) => file.replace(/\.js$/, ".ts"))
    .filter((module) => targetOf(exports, module) !== undefined)
    .map((module) => `./${module}`)

/** Problems of a manifest that no tool reports. */
const leaks = ({ dependencies, devDependencies, private: isPrivate, scripts }) =>
  [
    ...Object.entries(dependencies).filter(([, wanted]) => !/^\d+\.\d+\.\d+/.test(wanted)),
    ...Object.keys({ ...devDependencies, ...scripts }),
    ...(isPrivate ? ["private"] : [])
  ].map(String)

/** The packages that a module imports. Stops after the imports, since script texts may follow. */
const importedBy = (file) => {
  const text = readFileSync(file, "utf8")
  const head = /^(?:\s*(?:\/\*.*?\*\/|\/\/[^\n]*\n|(?:import|export)\b[^;]*?\bfrom "[^"]+";|import "[^"]+";))*/s.exec(
    text
  )[0]
  const names = Array.from(head.matchAll(/(?:from|import) "([^"]+)"/g), ([, name]) => name)
  for (const [, name] of text.matchAll(/\bimport\("([^"]+)"\)/g)) names.push(name)
  return names
    .filter((name) => !/^(\.|node:)/.test(name))
    .map((name) => name.split("/", name.startsWith("@") ? 2 : 1).join("/"))
}

const unnamed = (lib, { dependencies, peerDependencies }) => {
  const named = { ...dependencies, ...peerDependencies }
  const files = readdirSync(lib, { recursive: true, encoding: "utf8" }).filter((file) => /\.(js|d\.ts)$/.test(file))
  return [...new Set(files.flatMap((file) => importedBy(join(lib, file))))].filter((name) => !(name in named))
}

/** The manifest of each built package by its name. */
const manifests = () =>
  Object.fromEntries(
    packages.map((name) => readJson(join(root, "packages", name, "dist", "package.json"))).map((one) => [one.name, one])
  )

/** Internal modules of other packages that a built package names in its code or its declarations. */
const hiddenImports = (lib, own) => {
  const known = manifests()
  const files = readdirSync(lib, { recursive: true, encoding: "utf8" }).filter((file) => /\.(js|d\.ts)$/.test(file))
  const found = files.flatMap((file) =>
    Array.from(readFileSync(join(lib, file), "utf8").matchAll(/"(@castellan\/\w+|castellan)\/([^"]+\.ts)"/g))
      .filter(([, name, module]) => name !== own && targetOf(known[name].exports, module) === undefined)
      .map(([, name, module]) => `${name}/${module}`)
  )
  return [...new Set(found)]
}

const directory = mkdtempSync(join(tmpdir(), "castellan-packages-"))
process.on("exit", () => rmSync(directory, { recursive: true, force: true }))

if (!check("build", root, [process.execPath, "scripts/build.mjs"])) process.exit(1)

const tarballs = packages.map((name) => {
  const dist = join(root, "packages", name, "dist")
  const manifest = readJson(join(dist, "package.json"))
  check(`${name}: pack`, directory, ["npm", "pack", "--silent", "--pack-destination", directory, dist])
  const tarball = join(directory, `${manifest.name.replace("@", "").replace("/", "-")}-${manifest.version}.tgz`)
  check(`${name}: publint`, root, [bin("publint"), "run", tarball, "--strict"])
  // CommonJS and module resolution without `exports` are not supported: attw.json excludes them.
  const attw = [bin("attw"), tarball, "--config-path", "scripts/attw.json"]
  check(`${name}: attw`, root, [...attw, "--entrypoints", ...entryPoints(join(dist, "lib"), manifest)])
  const leaked = leaks(manifest)
  console.log(
    `${leaked.length === 0 ? "ok    " : "FAILED"} ${name}: its manifest has no development-only fields ${leaked}`
  )
  failed += leaked.length
  const missing = unnamed(join(dist, "lib"), manifest)
  console.log(
    `${missing.length === 0 ? "ok    " : "FAILED"} ${name}: it depends on every package that it imports ${missing}`
  )
  failed += missing.length
  const hidden = hiddenImports(join(dist, "lib"), manifest.name)
  console.log(
    `${hidden.length === 0 ? "ok    " : "FAILED"} ${name}: names only public modules of other packages ${hidden}`
  )
  failed += hidden.length
  return tarball
})

const outsider = join(directory, "outsider")
cpSync(join(root, "scripts", "outsider"), outsider, { recursive: true })
writeFileSync(join(outsider, "package.json"), JSON.stringify({ name: "outsider", private: true, type: "module" }))

const { devDependencies, optionalDependencies } = readJson(join(root, "package.json"))
const { effect, typescript } = devDependencies
const nodePackage = `node-${process.platform}-${process.arch}`
const installing = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel", "error"]
const others = [`effect@${effect}`, `typescript@${typescript}`, `${nodePackage}@${oldestNode}`]
check("an empty project installs them", outsider, [...installing, ...tarballs, ...others])

/** The path of a program that `npm install` installed. */
const installedProgram = (name) => join(outsider, "node_modules", ".bin", name)
const untyped = "--no-experimental-strip-types"
for (const [version, program] of [
  [oldestNode, installedProgram("node")],
  [optionalDependencies[nodePackage], bin("node")]
]) {
  const says = ({ output, status }) => status === 0 && output.trim() === `v${version}`
  check(`Node ${version} is there`, outsider, [program, "--version"], says)
  check(`the fakes, on Node ${version} without types`, outsider, [program, untyped, "fakes.mjs"])
  check(`real sandboxes and a database, on Node ${version}`, outsider, [program, untyped, "local.mjs"])
  const command = [program, untyped, join("node_modules", "castellan", "bin", "castellan.mjs"), "--help"]
  check(`the command line, on Node ${version}`, outsider, command)
  check(`the emulator of Vercel Sandbox, on Node ${version}`, outsider, [program, untyped, "emulate.mjs"])
  check(`internal modules are hidden, on Node ${version}`, outsider, [program, untyped, "internals.mjs"])
}

const compiler = [installedProgram("tsc"), "--noEmit", "--strict", "--target", "es2023"]
/** Ignores errors in the declarations of other packages. */
const ownTypesPass = ({ output, status }) =>
  status !== null &&
  status <= 2 &&
  !/^(types\.ts|node_modules\/(@castellan|castellan)\/)/m.test(output) &&
  !/error TS[56]\d{3}:/.test(output)

for (const mode of [
  ["--module", "nodenext"],
  ["--module", "esnext", "--moduleResolution", "bundler"]
]) {
  check(`types, ${mode.at(-1)}`, outsider, [...compiler, ...mode, "types.ts"], ownTypesPass)
}

const minimal = join(directory, "minimal")
cpSync(join(root, "scripts", "outsider-minimal"), minimal, { recursive: true })
writeFileSync(join(minimal, "package.json"), JSON.stringify({ name: "minimal", private: true, type: "module" }))
const needed = tarballs.filter((_, index) => ["domain", "adapters"].includes(packages[index]))
check("an empty project installs the adapters alone", minimal, [...installing, ...needed, `effect@${effect}`])
check("optional packages are named when they are missing", minimal, [bin("node"), untyped, "missing.mjs"])
check("types without optional packages", minimal, [...compiler, "--module", "nodenext", "types.ts"], ownTypesPass)

process.exit(failed === 0 ? 0 : 1)
