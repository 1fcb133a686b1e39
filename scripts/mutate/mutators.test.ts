import assert from "node:assert/strict"
import { test } from "node:test"
import { applied, mutantsOf } from "./mutators.ts"

/** The mutated texts of a source. */
const mutated = (source: string) => mutantsOf("source.ts", source).map((mutant) => applied(source, mutant))

test("drops each condition and the ordering of a query", () => {
  const chain = 'db.where("id", "=", id).where("account_id", "=", account).orderBy("at").execute()'
  const results = mutated(chain)
  assert.ok(results.includes('db.where("id", "=", id).orderBy("at").execute()'))
  assert.ok(results.includes('db.where("account_id", "=", account).orderBy("at").execute()'))
  assert.ok(results.includes('db.where("id", "=", id).where("account_id", "=", account).execute()'))
})

test("drops, recombines and shifts the conditions of an SQL template", () => {
  const results = mutated("sql`delete from t where a = ${x} and b < ${y} order by c limit ${n}`")
  for (const result of [
    "sql`delete from t where a = ${x} order by c limit ${n}`",
    "sql`delete from t where b < ${y} order by c limit ${n}`",
    "sql`delete from t where a = ${x} or b < ${y} order by c limit ${n}`",
    "sql`delete from t where a = ${x} and b <= ${y} order by c limit ${n}`",
    "sql`delete from t where a = ${x} and b < ${y} order by c`"
  ]) {
    assert.ok(results.includes(result), result)
  }
})

test("drops a yielded statement, an error handler and a value, and negates a condition", () => {
  const results = mutated(
    'const f = function* () { yield* save(a); if (a.b) return Option.some(g(x).pipe(Effect.catchTag("T", h))) }'
  )
  for (const part of ["{ {} if", "if (!(a.b))", "return Option.none()", "g(x).pipe()"]) {
    assert.ok(
      results.some((result) => result.includes(part)),
      part
    )
  }
})

test("swaps operators, shifts boundaries and numbers, and returns a constant", () => {
  assert.deepEqual(
    new Set(mutated("const f = (a, b) => a < 1 && b")),
    new Set([
      "const f = (a, b) => a <= 1 && b",
      "const f = (a, b) => a < 2 && b",
      "const f = (a, b) => ((a < 1) || (b))",
      "const f = (a, b) => a < 1",
      "const f = (a, b) => b",
      "const f = (a, b) => true",
      "const f = (a, b) => false"
    ])
  )
})

test("does not mutate imports, types, logs and documentation", () => {
  assert.deepEqual(
    mutated(
      'import { a } from "./a.ts"\ntype T = 1 | true\nconst f = function* () { yield* Effect.logWarning("a", 1) }\nf({ description: "a" })\nx.annotate({ a: 1 })'
    ),
    [
      'import { a } from "./a.ts"\ntype T = 1 | true\nconst f = function* () { yield* Effect.logWarning("a", 1) }\n{}\nx.annotate({ a: 1 })'
    ]
  )
})
