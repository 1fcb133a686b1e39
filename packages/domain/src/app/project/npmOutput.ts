import { bareName, type PackageName } from "./PackageName.ts"
import { stripAnsi } from "./stripAnsi.ts"

/** Turns npm's output into messages for the owner of an app. */

/** Length limit of a formatted message in characters. */
const maxLength = 2000

const withoutPrefix = (line: string): string => line.replace(/^npm (?:error|ERR!|warn|notice) ?/i, "").trimEnd()

/** Lines that mean nothing to the app's author, such as paths of log files. */
const isNoise = (line: string): boolean =>
  /complete log of this run|^\s*$|^Log files were not written|^code E\w+$|^(?:npm )?notice|^404 (?:Note that you can also install from a|tarball, folder, http url)/i.test(
    line
  )

/**
 * The package manager's output without colors, host names and paths of log files, truncated to `maxLength`.
 */
export const formatNpmOutput = (output: string): string => {
  const lines = stripAnsi(output)
    .split(/\r?\n/)
    .map(withoutPrefix)
    .filter((line) => !isNoise(line))
    .map((line) => line.replaceAll(/\bhttps?:\/\/[^/\s]+/gi, "").replaceAll(/\/home\/user\b/g, "~"))
  const text = [...new Set(lines)].join("\n").trim()
  if (text === "") return "The package manager failed without an error message"
  return text.length > maxLength ? `${text.slice(0, maxLength)} …` : text
}

const urlDecoded = (word: string): string => {
  try {
    return decodeURIComponent(word)
  } catch {
    return word
  }
}

/** Whether a word is the package's URL at a registry. The registry's URL may have a path. */
const isUrlOf = (name: string, word: string): boolean => {
  const url = urlDecoded(word)
  return /^https?:/.test(url) && url.endsWith(`/${name}`) && !/\/@[^/]+$/.test(url.slice(0, -name.length - 1))
}

/**
 * The first of `packages` that the registry does not have, or not in the requested version; undefined if npm failed for
 * another reason.
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
