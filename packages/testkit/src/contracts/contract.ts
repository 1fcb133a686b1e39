/** Defines the contract of a port as data, and runs it over a layer. */
import { it } from "@effect/vitest"
import { Effect, type Layer, Logger } from "effect"

/** The guarantees of a port: each clause is one sentence, with a test that fails over a layer that breaks it. */
export type Clauses<R> = Readonly<Record<string, () => Effect.Effect<void, unknown, R>>>

/** The clauses of a contract, by topic. */
export type Topics<R, Topic extends string = string> = Readonly<Record<Topic, Clauses<R>>>

export interface ContractOptions<Topic extends string> {
  /** Runs the clauses of these topics only. */
  readonly topics?: ReadonlyArray<Topic>
}

/** All clauses of a contract. */
export const allClauses = <R>(topics: Topics<R>): Clauses<R> =>
  Object.assign({}, ...Object.values(topics)) as Clauses<R>

/** Tests a layer against a contract in real time, because processes and databases have no test clock. */
export const runContract = <R, E, Topic extends string>(
  port: string,
  subject: string,
  layer: Layer.Layer<R, E>,
  topics: Topics<R, Topic>,
  options: ContractOptions<Topic> = {}
) =>
  it.layer(layer, { timeout: "60 seconds", excludeTestServices: true })(`${port} (${subject})`, (it) => {
    for (const topic of options.topics ?? (Object.keys(topics) as Array<Topic>)) {
      for (const [name, clause] of Object.entries(topics[topic])) {
        // The clauses provoke failures that a layer logs.
        it.effect(name, () => Effect.provide(clause(), Logger.layer([])))
      }
    }
  })
