/** Console blocks of a document as steps to run, and the comparison of what they show with what a shell prints. */

/** One command of a console block, and the output that the document shows for it. */
export interface Step {
  /** The line of the document that the command is on, from 1. */
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
      if (step === undefined) throw new Error(`Line ${index + 1}: a console block begins without a command`)
      step.shown += `${text}\n`
    }
  }
  return steps.map((step) => ({ ...step, shown: step.shown.trimEnd() }))
}

/** Text of a document that stands for something else on each machine: the text, and what it is here. */
export type Facts = ReadonlyMap<string, string>

interface Kind {
  /** Finds the text in a document. */
  readonly shown: string
  /** What may be there in fact. */
  readonly actual: string
  /** Whether the same text in the document is the same text in fact, wherever it is. */
  readonly isBound?: boolean
}

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`

/** The text that varies between two runs, and how. All other text is compared as it is. */
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
  // The short name of a commit, at the beginning of a line of its log.
  { shown: "^[0-9a-f]{7}(?= )", actual: "[0-9a-f]{7,12}" },
  { shown: String.raw`(?<="timeout":)\d{4,}`, actual: String.raw`\d{4,}` },
  { shown: String.raw`\b\d+ min \d+ s\b`, actual: String.raw`\d+ min \d+ s` },
  { shown: String.raw`\b\d+ ms\b`, actual: String.raw`\d+ ms` },
  { shown: String.raw`(?<=localhost:|127\.0\.0\.1:)\d+`, actual: String.raw`\d+` },
  // Versions of other programs; ours have a v before them.
  { shown: String.raw`(?<![\w.])\d+\.\d+\.\d+(?![\w.])`, actual: String.raw`\d+\.\d+[\w.]*` },
  // The position in a log, in bytes of each stream.
  { shown: String.raw`(?<=^id: )\d+\.\d+$`, actual: String.raw`\d+\.\d+` },
  // Columns are as wide as their widest cell.
  { shown: " {2,}", actual: " {2,}" }
]

const escape = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`)

/** Finds facts and text of the kinds; the first group is a fact, those after it are the kinds. */
const finder = (facts: Facts, wanted: ReadonlyArray<Kind>) => {
  const alternatives = wanted.map(({ shown }) => `(${shown})`)
  return new RegExp([`(${[...facts.keys()].map(escape).join("|") || "(?!)"})`, ...alternatives].join("|"), "gm")
}

const bound = kinds.filter(({ isBound }) => isBound)

const output = String.raw`id: [\d.]+\nevent: output\ndata: {"stream":"(\w+)","text":"((?:[^"\\]|\\.)*)"}\n\n`
const twoOutputs = new RegExp(`${output}(id: [\\d.]+\\nevent: output\\ndata: {"stream":"\\1","text":")`, "g")

/** A log has as many events as the command made writes: joins neighbours of one stream. */
const withJoinedOutput = (text: string): string => {
  const joined = text.replaceAll(twoOutputs, (_, _stream, first: string, next: string) => `${next}${first}`)
  return joined === text ? text : withJoinedOutput(joined)
}

const withoutTrailingSpace = (text: string) => text.replaceAll(/[ \t]+$/gm, "").trimEnd()

/** Compares outputs in the order of the document, and keeps what its ids are in fact. */
export class Comparison {
  readonly #known = new Map<string, string>()

  /** The command with facts and ids in place of what the document shows; and the ids that no output has shown. */
  commandOf(text: string, facts: Facts): { readonly command: string; readonly unknown: ReadonlyArray<string> } {
    const unknown: Array<string> = []
    const command = text.replaceAll(finder(facts, bound), (shown) => {
      const actual = facts.get(shown) ?? this.#known.get(shown)
      if (actual === undefined) unknown.push(shown)
      return actual ?? shown
    })
    return { command, unknown }
  }

  /** Whether the output has the shape and the constants of the shown one. If it has, its ids are known from then on. */
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
