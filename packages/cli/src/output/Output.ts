/** What is printed, where, and for whom. */
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import type { Answer } from "../client/Answer.ts"
import { OutputClosed } from "../client/Failure.ts"
import { castellan } from "../Root.ts"
import { plain } from "./Table.ts"

/** Writes to standard output as it is. */
export const print = (text: string | Uint8Array) =>
  Effect.flatMap(Stdio.Stdio, (stdio) =>
    text.length === 0 ? Effect.void : Stream.run(Stream.make(text), stdio.stdout())
  ).pipe(Effect.mapError(() => new OutputClosed()))

/** Writes to standard error as it is. */
export const printError = (text: string) =>
  Effect.flatMap(Stdio.Stdio, (stdio) =>
    text.length === 0 ? Effect.void : Stream.run(Stream.make(text), stdio.stderr())
  ).pipe(Effect.mapError(() => new OutputClosed()))

/** One line for the person, on standard error, so that it never mixes with what was asked for. */
export const say = (sentence: string) =>
  Effect.ignore(printError(`castellan: ${plain(sentence).replace(/ {2,}/g, " ")}\n`))

/** Whether the answer is for a program. */
export const isForProgram = Effect.map(castellan, ({ json }) => json)

const asLines = (text: string) => (text === "" || text.endsWith("\n") ? text : `${text}\n`)

/** With `--json` the answer as it came, for everyone else what the function makes of it. */
export const present = Effect.fnUntraced(function* <A>(answer: Answer<A>, forPeople: (json: A) => string) {
  yield* print(asLines((yield* isForProgram) ? answer.text : forPeople(answer.json)))
})

/** With `--json` the text, for everyone else nothing. */
export const printForProgram = Effect.fnUntraced(function* (text: string) {
  if (yield* isForProgram) yield* print(asLines(text))
})
