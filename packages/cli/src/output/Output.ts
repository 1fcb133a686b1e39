/** Writes to standard output and standard error, for people or, with `--json`, for programs. */
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import type { Answer } from "../client/Answer.ts"
import { OutputClosed } from "../client/Failure.ts"
import { castellan } from "../Root.ts"
import { plain } from "./Table.ts"

/** Writes to standard output unchanged. */
export const print = (text: string | Uint8Array) =>
  Effect.flatMap(Stdio.Stdio, (stdio) =>
    text.length === 0 ? Effect.void : Stream.run(Stream.make(text), stdio.stdout())
  ).pipe(Effect.mapError(() => new OutputClosed()))

/** Writes to standard error unchanged. */
export const printError = (text: string) =>
  Effect.flatMap(Stdio.Stdio, (stdio) =>
    text.length === 0 ? Effect.void : Stream.run(Stream.make(text), stdio.stderr())
  ).pipe(Effect.mapError(() => new OutputClosed()))

/** Writes one line for people to standard error, so that it never mixes with the requested output. */
export const say = (sentence: string) =>
  Effect.ignore(printError(`castellan: ${plain(sentence).replace(/ {2,}/g, " ")}\n`))

/** Whether `--json` was given. */
export const isForProgram = Effect.map(castellan, ({ json }) => json)

const asLines = (text: string) => (text === "" || text.endsWith("\n") ? text : `${text}\n`)

/** Prints the response: unchanged with `--json`, otherwise as formatted by the function. */
export const present = Effect.fnUntraced(function* <A>(answer: Answer<A>, forPeople: (json: A) => string) {
  yield* print(asLines((yield* isForProgram) ? answer.text : forPeople(answer.json)))
})

/** Prints the text only with `--json`. */
export const printForProgram = Effect.fnUntraced(function* (text: string) {
  if (yield* isForProgram) yield* print(asLines(text))
})
