/** Reads and summarizes the query plan of a statement. */
import type { Statement } from "@castellan/adapters/postgres/Db.ts"
import type { Database } from "./filled.ts"

interface Node {
  readonly "Node Type": string
  readonly "Index Name"?: string
  readonly "Relation Name"?: string
  readonly "Function Name"?: string
  readonly "Shared Hit Blocks"?: number
  readonly "Shared Read Blocks"?: number
  readonly Plans?: ReadonlyArray<Node>
}

interface Explained {
  readonly Plan: Node
  readonly "Planning Time": number
  readonly "Execution Time": number
}

const label = (node: Node): string => {
  const on = node["Index Name"] ?? node["Relation Name"] ?? node["Function Name"]
  return on === undefined ? node["Node Type"] : `${node["Node Type"]} ${on}`
}

/** A plan as one line: `Limit < Index Scan account_sandboxes_newest`. */
const compact = (node: Node): string => {
  const below = (node.Plans ?? []).map(compact)
  const rest = below.length > 1 ? `(${below.join(" | ")})` : below[0]
  return rest === undefined ? label(node) : `${label(node)} < ${rest}`
}

const explain = (kind: string, { parameters, sql }: Statement): [string, Array<unknown>] => [
  `explain (${kind}) ${sql}`,
  [...parameters]
]

/** Runs `run` in a transaction and rolls it back. */
const rollingBack = async <A>(database: Database, run: () => Promise<A>): Promise<A> => {
  await database.query("begin")
  try {
    return await run()
  } finally {
    await database.query("rollback")
  }
}

/** Planning and execution time in milliseconds, buffers, and the plan as one line. */
export const ask = async (database: Database, statement: Statement) => {
  const { rows } = await rollingBack(database, () =>
    database.query(...explain("analyze, buffers, format json", statement))
  )
  const [row] = rows as ReadonlyArray<{ "QUERY PLAN": readonly [Explained] }>
  const [explained] = row!["QUERY PLAN"]
  const { Plan: plan } = explained
  return {
    time: explained["Planning Time"] + explained["Execution Time"],
    line: compact(plan),
    buffers: (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0)
  }
}

/** The full plan as the database prints it. */
export const whole = async (database: Database, statement: Statement): Promise<string> => {
  const { rows } = await rollingBack(database, () => database.query(...explain("analyze, buffers", statement)))
  return (rows as ReadonlyArray<Record<string, string>>).map((row) => row["QUERY PLAN"]).join("\n")
}

/** A connection that emits the plans of what runs inside a statement: functions and foreign key checks. */
export interface NoticeSource extends Database {
  readonly on: (event: "notice", hear: (notice: { readonly message?: string | undefined }) => void) => unknown
  readonly removeAllListeners: (event: "notice") => unknown
}

export const inside = async (database: NoticeSource, statement: Statement): Promise<ReadonlyArray<string>> => {
  const heard: Array<string> = []
  database.on("notice", ({ message }) => heard.push(message ?? ""))
  await database.query("load 'auto_explain'")
  await rollingBack(database, async () => {
    await database.query(`
      set local auto_explain.log_min_duration = 0;
      set local auto_explain.log_nested_statements = on;
      set local auto_explain.log_analyze = on;
      set local auto_explain.log_buffers = on;
      set local auto_explain.log_format = json;
      set local client_min_messages = log`)
    await database.query(statement.sql, [...statement.parameters])
  })
  database.removeAllListeners("notice")
  // The statement itself comes last.
  return heard
    .filter((message) => message.includes("plan:"))
    .slice(0, -1)
    .map((message) => JSON.parse(message.slice(message.indexOf("{"))) as { readonly "Query Text": string; Plan: Node })
    .map((told) => `${told["Query Text"].trim().replaceAll(/\s+/g, " ").slice(0, 60)}…: ${compact(told.Plan)}`)
}
