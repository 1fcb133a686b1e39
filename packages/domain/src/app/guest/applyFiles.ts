/** The script that writes files into an app's project. */
import { Schema } from "effect"
import { script } from "./Script.ts"

const Failure = Schema.Struct({ path: Schema.String, reason: Schema.String })

export const AppliedFiles = Schema.Struct({
  /** Paths that were written. */
  applied: Schema.Array(Schema.String),
  /** Paths that were not written, with the reason. If a check rejects one path, nothing is written. */
  failed: Schema.Array(Failure)
})
export type AppliedFiles = typeof AppliedFiles.Type

/**
 * `$1` is the path of a JSON file with the files to write; the script deletes it. It checks all paths before it writes, and
 * writes all contents to a staging directory before it renames any into place, so a full disk changes nothing.
 */
export const applyFiles = script(`
const refused = (path, reason) => ({ path, reason })
const isWithin = (file) => file === root || file.startsWith(root + path.sep)
/** The real path of the file; follows links that stay within the project. */
const targetOf = (file) => {
  const parts = file.split("/")
  const name = parts.pop()
  let directory = root
  for (const part of parts) {
    directory = path.join(directory, part)
    const found = fs.lstatSync(directory, { throwIfNoEntry: false })
    if (found === undefined) continue
    if (found.isSymbolicLink()) {
      const real = fs.realpathSync(directory)
      if (!isWithin(real)) throw new Error("It leads out of the project")
      directory = real
    }
    if (!fs.statSync(directory).isDirectory()) throw new Error("A file is where a directory would have to be")
  }
  const target = path.join(directory, name)
  const found = fs.lstatSync(target, { throwIfNoEntry: false })
  const real = found?.isSymbolicLink() ? fs.realpathSync(target) : target
  if (!isWithin(real)) throw new Error("It leads out of the project")
  if (found && fs.statSync(real).isDirectory()) throw new Error("A directory has that name")
  return real
}
const words = (cause) => {
  switch (cause.code) {
    case undefined: return cause.message
    case "ENOSPC": case "EDQUOT": return "There is no space left"
    case "ENAMETOOLONG": return "Its name is too long"
    case "EACCES": case "EPERM": case "EROFS": return "It can't be written there"
    case "ENOTDIR": case "EEXIST": return "A file is where a directory would have to be"
    case "EISDIR": return "A directory has that name"
    case "ENOENT": case "ELOOP": return "A link on the way leads nowhere"
    default: return "It can't be written (" + cause.code + ")"
  }
}
/** A new staging directory on the project's file system; removes those of killed processes. */
const place = () => {
  const modules = path.join(root, "node_modules")
  const above = fs.lstatSync(modules, { throwIfNoEntry: false })?.isDirectory() ? modules : root
  for (const name of fs.readdirSync(above)) {
    if (/^[.]castellan-[0-9]+$/.test(name)) fs.rmSync(path.join(above, name), { recursive: true, force: true })
  }
  return path.join(above, ".castellan-" + process.pid)
}
const apply = (files) => {
  const targets = new Map(), failed = []
  for (const file of files.keys()) {
    try { targets.set(file, targetOf(file)) } catch (cause) { failed.push(refused(file, words(cause))) }
  }
  const all = new Set(targets.values())
  for (const [file, target] of targets) {
    for (let above = path.dirname(target); isWithin(above) && above !== root; above = path.dirname(above)) {
      if (all.has(above)) failed.push(refused(file, "A file is where a directory would have to be"))
    }
  }
  if (failed.length > 0) return { applied: [], failed }
  const stage = place()
  const staged = new Map()
  const applied = []
  try {
    fs.mkdirSync(stage, { recursive: true })
    for (const [file, content] of files) {
      const beside = path.join(stage, String(staged.size))
      try {
        fs.writeFileSync(beside, content)
        const mode = fs.statSync(targets.get(file), { throwIfNoEntry: false })?.mode
        if (mode !== undefined) fs.chmodSync(beside, mode & 0o777)
      } catch (cause) {
        return { applied, failed: [refused(file, words(cause))] }
      }
      staged.set(file, beside)
    }
    for (const [file, beside] of staged) {
      try {
        fs.mkdirSync(path.dirname(targets.get(file)), { recursive: true })
        fs.renameSync(beside, targets.get(file))
        applied.push(file)
      } catch (cause) {
        failed.push(refused(file, words(cause)))
      }
    }
    return { applied, failed }
  } finally {
    fs.rmSync(stage, { recursive: true, force: true })
  }
}
main(async () => {
  const bundle = process.argv[1]
  const files = new Map(JSON.parse(fs.readFileSync(bundle, "utf8")).map(({ path, content }) => [path, content]))
  fs.rmSync(bundle)
  const done = await locked(async () => apply(files))
  await ask("nudge")
  return done
})
`)
