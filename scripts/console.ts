/** Parses the console blocks of a document into steps, and compares the shown output with the actual output. */

/** One command of a console block, and the output that the document shows for it. */
export interface Step {
  /** The command's line in the document, counted from 1. */
  readonly line: number
  readonly command: string
  readonly shown: string
}

/** The steps of every ```console block, in order. */
export const stepsOf = (markdown: string): ReadonlyArray<Step> => {
  const steps: Array<{ line: number; command: string; shown: string }> = []
  let isConsole = false
  let continues = false
  for (const [index, text] of markdown.split("\n").entries()) {
    if (!isConsole) {
      isConsole = text.startsWith("```console")
      continues = false
    } else if (text.startsWith("```")) {
      isConsole = false
    } else if (continues) {
      steps.at(-1)!.command += `\n${text}`
      continues = text.endsWith("\\")
    } else if (text.startsWith("$ ")) {
      steps.push({ line: index + 1, command: text.slice(2), shown: "" })
      continues = text.endsWith("\\")
    } else {
      const step = steps.at(-1)
      if (step === undefined) throw new Error(`Line ${index + 1}: a console block must start with a command`)
      step.shown += `${text}\n`
    }
  }
  return steps.map((step) => ({ ...step, shown: step.shown.trimEnd() }))
}

/** A text of the document whose actual value differs between machines, and its value here. */
export type Facts = ReadonlyMap<string, string>

interface Kind {
  /** Matches the text in the document. */
  readonly shown: string
  /** Matches the actual text. */
  readonly actual: string
  /** Whether equal texts in the document must have equal actual texts. */
  readonly isBound?: boolean
}

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`

/** The kinds of text that vary between runs. All other text must be equal. */
const kinds: ReadonlyArray<Kind> = [
  { shown: " *… *", actual: String.raw`[\s\S]*?` },
  ...["sbx", "run", "snap", "ses"].map((prefix): Kind => {
    const id = String.raw`\b${prefix}_[0-9a-z]+\b`
    return { shown: id, actual: id, isBound: true }
  }),
  { shown: String.raw`\bapp-[0-9a-z]{20}\b`, actual: String.raw`app-[0-9a-z]{20}\b`, isBound: true },
  { shown: uuid, actual: uuid, isBound: true },
  { shown: time, actual: time, isBound: true },
  { shown: String.raw`\b[0-9a-f]{40}\b`, actual: "[0-9a-f]{40}", isBound: true },
  // The abbreviated hash of a commit, at the start of a line of the git log.
  { shown: "^[0-9a-f]{7}(?= )", actual: "[0-9a-f]{7,12}" },
  { shown: String.raw`(?<="timeout":)\d{4,}`, actual: String.raw`\d{4,}` },
  { shown: String.raw`\b\d+ min \d+ s\b`, actual: String.raw`\d+ min \d+ s` },
  { shown: String.raw`\b\d+ ms\b`, actual: String.raw`\d+ ms` },
  { shown: String.raw`(?<=localhost:|127\.0\.0\.1:)\d+`, actual: String.raw`\d+` },
  // Versions of other programs. Pinned versions start with a v and must be equal.
  { shown: String.raw`(?<![\w.])\d+\.\d+\.\d+(?![\w.])`, actual: String.raw`\d+\.\d+[\w.]*` },
  // The position in a log, in bytes of each stream.
  { shown: String.raw`(?<=^id: )\d+\.\d+$`, actual: String.raw`\d+\.\d+` },
  // Columns are as wide as their widest cell.
  { shown: " {2,}", actual: " {2,}" }
]

const escape = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`)

/** Matches facts and variable text. The first group is a fact; the other groups are the kinds. */
const finder = (facts: Facts, wanted: ReadonlyArray<Kind>) => {
  const alternatives = wanted.map(({ shown }) => `(${shown})`)
  return new RegExp([`(${[...facts.keys()].map(escape).join("|") || "(?!)"})`, ...alternatives].join("|"), "gm")
}

const bound = kinds.filter(({ isBound }) => isBound)

const output = String.raw`id: [\d.]+\nevent: output\ndata: {"stream":"(\w+)","text":"((?:[^"\\]|\\.)*)"}\n\n`
const twoOutputs = new RegExp(`${output}(id: [\\d.]+\\nevent: output\\ndata: {"stream":"\\1","text":")`, "g")

/** Joins adjacent log events of one stream, since the number of events depends on how the command's writes are split. */
const withJoinedOutput = (text: string): string => {
  const joined = text.replaceAll(twoOutputs, (_, _stream, first: string, next: string) => `${next}${first}`)
  return joined === text ? text : withJoinedOutput(joined)
}

const withoutTrailingSpace = (text: string) => text.replaceAll(/[ \t]+$/gm, "").trimEnd()

/** Compares outputs in document order and remembers the actual value of each id. */
export class Comparison {
  readonly #known = new Map<string, string>()

  /** The command with actual facts and ids, and the ids in it that no output has shown yet. */
  commandOf(text: string, facts: Facts): { readonly command: string; readonly unknown: ReadonlyArray<string> } {
    const unknown: Array<string> = []
    const command = text.replaceAll(finder(facts, bound), (shown) => {
      const actual = facts.get(shown) ?? this.#known.get(shown)
      if (actual === undefined) unknown.push(shown)
      return actual ?? shown
    })
    return { command, unknown }
  }

  /** Whether the actual output matches the shown one. If it does, its ids are remembered. */
  matches(shown: string, actual: string, facts: Facts): boolean {
    const text = withoutTrailingSpace(shown)
    const names: Array<string> = []
    const patternOf = ([found, fact, ...groups]: ReadonlyArray<string | undefined>): string => {
      if (fact !== undefined) return escape(facts.get(fact)!)
      const kind = kinds[groups.findIndex((group) => group !== undefined)]!
      if (kind.isBound !== true) return kind.actual
      const known = this.#known.get(found!)
      if (known !== undefined) return escape(known)
      const earlier = names.indexOf(found!)
      if (earlier >= 0) return String.raw`\k<id${earlier}>`
      names.push(found!)
      return `(?<id${names.length - 1}>${kind.actual})`
    }
    let pattern = ""
    let end = 0
    for (const match of text.matchAll(finder(facts, kinds))) {
      pattern += escape(text.slice(end, match.index)) + patternOf(match)
      end = match.index + match[0].length
    }
    pattern += escape(text.slice(end))
    const found = new RegExp(`^${pattern}$`).exec(withoutTrailingSpace(withJoinedOutput(actual)))
    if (found === null) return false
    for (const [index, name] of names.entries()) this.#known.set(name, found.groups![`id${index}`]!)
    return true
  }
}
