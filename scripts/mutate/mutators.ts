/** Lists the possible single semantic changes (mutants) of a source file. */
import { parseSync } from "oxc-parser"

export interface Mutant {
  readonly file: string
  /** Offsets in UTF-16 units of the text that is replaced. */
  readonly start: number
  readonly end: number
  readonly replacement: string
}

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

type Replace = (at: { readonly start: number; readonly end: number }, replacement: string) => void

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && typeof (value as Node).type === "string"

const childrenOf = (node: Node) =>
  Object.values(node).flatMap((value) => (Array.isArray(value) ? value.filter(isNode) : isNode(value) ? [value] : []))

/** Chained calls that a mutant drops, which makes a query or list wider or unordered. */
const optionalLinks = new Set(
  "where,orderBy,limit,distinct,onConflict,forUpdate,forNoKeyUpdate,skipLocked,filter,slice,toSorted,toReversed".split(
    ","
  )
)

/** Functions of Effect and related modules that return their first argument with added behavior. */
const addsBehaviour =
  /^(catch\w*|tap\w*|retry\w*|timeout\w*|ensuring|on[A-Z]\w*|uninterruptible|interruptible|filter\w*|when|unless|repeat\w*|delay|take\w*|drop\w*|acquireRelease)$/

/** Logs, spans, metrics and documentation. Tests should not assert them. */
const isObservability = (text: string) =>
  /^(yield\* )?(Effect\.(log|annotate|withSpan|withLogSpan|track)|Metric\.|Logger\.)|^\w+\.annotate|^annotate/.test(
    text
  )

const documentationKeys = new Set(["description", "title", "summary", "identifier", "message", "cause", "examples"])

const operators: Record<string, string> = {
  "<": "<=",
  "<=": "<",
  ">": ">=",
  ">=": ">",
  "===": "!==",
  "!==": "===",
  "+": "-",
  "-": "+",
  "*": "/",
  "/": "*",
  "%": "*"
}

const isText = (node: Node) =>
  node.type === "TemplateLiteral" || (node.type === "Literal" && typeof node["value"] === "string")

const isCondition = ({ operator, type }: Node) =>
  type === "LogicalExpression"
    ? operator !== "??"
    : (type === "BinaryExpression" && /^[<>=!]/.test(operator as string)) ||
      (type === "UnaryExpression" && operator === "!")

const calleeOf = (node: Node) => {
  const callee = node["callee"] as Node
  if (callee.type !== "MemberExpression" || callee["computed"] === true) return undefined
  return { object: callee["object"] as Node, name: (callee["property"] as Node)["name"] as string }
}

/** Removes each element of a list in turn, with its comma. */
const withoutEach = (
  elements: ReadonlyArray<Node | null>,
  replace: Replace,
  keep: (element: Node) => boolean = () => false
) => {
  const there = elements.filter((element) => element !== null)
  there.forEach((element, i) => {
    if (keep(element)) return
    const key = element.type === "Property" ? ((element["key"] as Node)["name"] as string | undefined) : undefined
    if (key !== undefined && documentationKeys.has(key)) return
    const next = there[i + 1]
    if (next !== undefined) replace({ start: element.start, end: next.start }, "")
    else replace({ start: there[i - 1]?.end ?? element.start, end: element.end }, "")
  })
}

/** Changes in the text of an SQL statement: conditions, boundaries, order, limits and locks. */
const sqlChanges: ReadonlyArray<readonly [find: RegExp, replacement: string]> = [
  [/\s+(?:and|or) (?:\$\{[^}]*\}|[\w.]+) (?:=|<>|<=?|>=?|is not|is) (?:\$\{[^}]*\}(?:::\w+)?|'[^']*'|[\w.]+)/g, ""],
  [/(?<=\bwhere )(?:\$\{[^}]*\}|[\w.]+) (?:=|<>|<=?|>=?|is not|is) (?:\$\{[^}]*\}(?:::\w+)?|'[^']*'|[\w.]+) and /g, ""],
  [/(?<=\s)and(?=\s)/g, "or"],
  [/(?<=\s)or(?=\s)/g, "and"],
  [/(?<=\s)<(?=\s)/g, "<="],
  [/(?<=\s)<=(?=\s)/g, "<"],
  [/(?<=\s)>(?=\s)/g, ">="],
  [/(?<=\s)>=(?=\s)/g, ">"],
  [/(?<=\s)<>(?=\s)/g, "="],
  [/\bis null\b/g, "is not null"],
  [/\bis not null\b/g, "is null"],
  [/\s+desc\b/g, ""],
  [/\s+for (?:no key )?update(?: skip locked)?/g, ""],
  [/\s+order by [\w., ]+/g, ""],
  [/\s+limit \$\{[^}]*\}/g, ""],
  [/\bmax\(/g, "min("],
  [/\bmin\(/g, "max("]
]

const mutate = (node: Node, parent: Node | undefined, source: string, replace: Replace): void => {
  const text = ({ end, start }: Node) => source.slice(start, end)
  const negate = (condition: Node) => {
    if (condition.type === "UnaryExpression" && condition["operator"] === "!") return
    if (condition.type === "BinaryExpression" && /^[=!]==$/.test(condition["operator"] as string)) return
    replace(condition, `!(${text(condition)})`)
  }
  const constant = (value: Node) => {
    if (isCondition(value)) for (const answer of ["true", "false"]) replace(value, answer)
  }
  switch (node.type) {
    case "CallExpression": {
      const args = node["arguments"] as ReadonlyArray<Node>
      const [first, second] = args
      const callee = calleeOf(node)
      if (callee !== undefined && /^[A-Z]\w*$/.test(text(callee.object))) {
        if (callee.name === "some" && text(callee.object) === "Option") replace(node, "Option.none()")
        if (callee.name === "andThen" && args.length === 2) replace(node, text(second!))
        if (addsBehaviour.test(callee.name) && args.length === 2) replace(node, text(first!))
        if (/^(un)?interruptible$/.test(callee.name) && args.length === 1) replace(node, text(first!))
      } else if (callee !== undefined) {
        if (optionalLinks.has(callee.name)) replace({ start: callee.object.end, end: node.end }, "")
        if (callee.name === "pipe")
          withoutEach(args, replace, (arg) => isObservability(text(arg)) || text(arg) === "Effect.asVoid")
        const twin = { every: "some", some: "every" }[callee.name]
        if (twin !== undefined) replace({ start: callee.object.end, end: first?.start ?? node.end }, `.${twin}(`)
      }
      if (text(node["callee"] as Node) === "Math.min") replace(node["callee"] as Node, "Math.max")
      if (text(node["callee"] as Node) === "Math.max") replace(node["callee"] as Node, "Math.min")
      break
    }
    case "ExpressionStatement": {
      const expression = node["expression"] as Node
      if (/^(Yield|Await|Call|Assignment|Update)Expression$/.test(expression.type)) replace(node, "{}")
      break
    }
    case "LogicalExpression": {
      const { left, operator, right } = node as unknown as Record<"left" | "right", Node> & { operator: string }
      const twin = { "&&": "||", "||": "&&" }[operator]
      if (twin !== undefined) {
        replace(node, `((${text(left)}) ${twin} (${text(right)}))`)
        replace(node, text(left))
        replace(node, text(right))
      }
      break
    }
    case "BinaryExpression": {
      const { left, operator, right } = node as unknown as Record<"left" | "right", Node> & { operator: string }
      const other = operators[operator]
      if (other === undefined || (operator === "+" && (isText(left) || isText(right)))) break
      const at = left.end + source.slice(left.end, right.start).indexOf(operator)
      replace({ start: at, end: at + operator.length }, other)
      break
    }
    case "IfStatement":
    case "ConditionalExpression":
    case "WhileStatement":
      negate(node["test"] as Node)
      break
    case "UnaryExpression":
      if (node["operator"] === "!") replace(node, text(node["argument"] as Node))
      break
    case "UpdateExpression":
      replace(node, node["operator"] === "++" ? text(node).replace("++", "--") : text(node).replace("--", "++"))
      break
    case "ReturnStatement":
      if (isNode(node["argument"])) constant(node["argument"])
      break
    case "ArrowFunctionExpression":
      constant(node["body"] as Node)
      break
    case "ObjectExpression":
      if (/^(Call|New|ArrowFunction)Expression$|^ReturnStatement$|^Property$/.test(parent?.type ?? "")) {
        withoutEach(node["properties"] as ReadonlyArray<Node>, replace)
      }
      break
    case "ArrayExpression":
      withoutEach(node["elements"] as ReadonlyArray<Node | null>, replace)
      break
    case "Literal": {
      const value = node["value"]
      if (typeof value === "boolean") replace(node, String(!value))
      if (typeof value === "number") replace(node, String(value > 0 && node.start % 2 === 1 ? value - 1 : value + 1))
      const duration = typeof value === "string" ? /^(\d+) (milli|second|minute|hour|day)s?$/.exec(value) : null
      if (duration !== null) replace(node, JSON.stringify(`${Number(duration[1]) + 1} ${duration[2]}s`))
      break
    }
    case "TaggedTemplateExpression": {
      if (text(node["tag"] as Node) !== "sql") break
      const quasi = node["quasi"] as Node
      for (const [find, replacement] of sqlChanges) {
        for (const { 0: found, index } of text(quasi).matchAll(find)) {
          const start = quasi.start + index
          replace({ start, end: start + found.length }, replacement)
        }
      }
    }
  }
}

/** All distinct mutants of a file. Excludes types, imports, logs and documentation. */
export const mutantsOf = (file: string, source: string): ReadonlyArray<Mutant> => {
  const mutants = new Map<string, Mutant>()
  const replace: Replace = ({ end, start }, replacement) =>
    void mutants.set(`${start} ${end} ${replacement}`, { file, start, end, replacement })
  const visit = (node: Node, parent?: Node) => {
    if (/^(Import|Export(?!Named|Default))/.test(node.type)) return
    if (node.type.startsWith("TS") && !/^TS(As|NonNull|Satisfies)/.test(node.type)) return
    if (isObservability(source.slice(node.start, node.end))) return
    mutate(node, parent, source, replace)
    for (const child of childrenOf(node)) visit(child, node)
  }
  visit(parseSync(file, source).program as unknown as Node)
  return [...mutants.values()]
}

/** The source with the mutant's change applied. */
export const applied = (source: string, { end, replacement, start }: Mutant) =>
  source.slice(0, start) + replacement + source.slice(end)
