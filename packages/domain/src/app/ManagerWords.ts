import { uncoloured } from "./uncoloured.ts"

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
export const cleaned = (output: string): string => {
  const lines = uncoloured(output)
    .split(/\r?\n/)
    .map(said)
    .filter((line) => !isAside(line))
    .map((line) => line.replaceAll(/\bhttps?:\/\/[^/\s]+/gi, "").replaceAll(/\/home\/user\b/g, "~"))
  const text = [...new Set(lines)].join("\n").trim()
  if (text === "") return "The package manager failed and did not say why"
  return text.length > longest ? `${text.slice(0, longest)} …` : text
}
