import { bareName, type PackageName } from "./PackageName.ts"
import { stripAnsi } from "./stripAnsi.ts"

/** Characters of what a package manager said that are passed on. */
const longest = 2000

const said = (line: string): string => line.replace(/^npm (?:error|ERR!|warn|notice) ?/i, "").trimEnd()

/** Lines for who keeps the machine, not for who writes the app. */
const isAside = (line: string): boolean =>
  /complete log of this run|^\s*$|^Log files were not written|^code E\w+$|^(?:npm )?notice|^404 (?:Note that you can also install from a|tarball, folder, http url)/i.test(
    line
  )

/**
 * What the package manager said, for who asked for the packages: without colours, addresses of hosts, and paths of its
 * logs; its beginning if it said much.
 */
export const formatNpmOutput = (output: string): string => {
  const lines = stripAnsi(output)
    .split(/\r?\n/)
    .map(said)
    .filter((line) => !isAside(line))
    .map((line) => line.replaceAll(/\bhttps?:\/\/[^/\s]+/gi, "").replaceAll(/\/home\/user\b/g, "~"))
  const text = [...new Set(lines)].join("\n").trim()
  if (text === "") return "The package manager failed and did not say why"
  return text.length > longest ? `${text.slice(0, longest)} …` : text
}

const urlName = (word: string): string => {
  try {
    return decodeURIComponent(word)
  } catch {
    return word
  }
}

/** Whether a word is the URL of that package at a registry, which may have a path of its own. */
const isUrlOf = (name: string, word: string): boolean => {
  const url = urlName(word)
  return /^https?:/.test(url) && url.endsWith(`/${name}`) && !/\/@[^/]+$/.test(url.slice(0, -name.length - 1))
}

/**
 * The package, of those that were asked for, that the registry does not have at all or not in that version; undefined where
 * the package manager failed for another reason.
 */
export const packageNotInRegistry = (output: string, packages: ReadonlyArray<PackageName>): PackageName | undefined => {
  const lines = stripAnsi(output).split(/\r?\n/)
  if (!lines.some((line) => /^npm (?:error|ERR!) code (?:E404|ETARGET)\s*$/.test(line))) return undefined
  const about = lines.filter((line) => /^npm (?:error|ERR!) (?:404|notarget) /.test(line))
  const words = about.flatMap((line) => line.split(/\s+/))
  return packages.find((one) => {
    const name = bareName(one)
    return words.some((word) => word.startsWith(`'${name}@`) || word.startsWith(`${name}@`) || isUrlOf(name, word))
  })
}
