/** Decodes the output of commands as UTF-8 text. */
import { Effect, Stream } from "effect"
import { decode, wholeCharacters } from "../utf8.ts"
import { type Output, OutputPosition, type OutputStream } from "./Command.ts"

/** A piece of output as text, and the position after it. */
export interface OutputText {
  readonly stream: OutputStream
  readonly text: string
  readonly next: OutputPosition
}

/** Bytes of an incomplete character, by stream. */
type Incomplete = Readonly<Record<OutputStream, Uint8Array>>

const nothing = new Uint8Array()

const join = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  if (a.length === 0) return b
  const joined = new Uint8Array(a.length + b.length)
  joined.set(a)
  joined.set(b, a.length)
  return joined
}

const takeComplete = (incomplete: Incomplete, piece: Output): readonly [Incomplete, ReadonlyArray<OutputText>] => {
  const bytes = join(incomplete[piece.stream], piece.bytes)
  const whole = wholeCharacters(bytes)
  const left: Incomplete = { ...incomplete, [piece.stream]: bytes.slice(whole) }
  if (whole === 0) return [left, []]
  const next = new OutputPosition({
    stdout: piece.next.stdout - left.stdout.length,
    stderr: piece.next.stderr - left.stderr.length
  })
  return [left, [{ stream: piece.stream, text: decode(bytes.subarray(0, whole)), next }]]
}

/**
 * Output as text, never cut within a character. A position counts only bytes whose text was emitted, so a reader that
 * continues from it loses and repeats nothing. An incomplete character at the end of a stream is dropped.
 */
export const toText = <E, R>(output: Stream.Stream<Output, E, R>): Stream.Stream<OutputText, E, R> =>
  Stream.mapAccum(output, (): Incomplete => ({ stdout: nothing, stderr: nothing }), takeComplete)

/** The first `limit` bytes of one stream's output as text. `truncated` if there was more. */
export const readFirst = Effect.fnUntraced(function* <E, R>(output: Stream.Stream<Output, E, R>, limit: number) {
  const chunks: Array<Uint8Array> = []
  let size = 0
  yield* output.pipe(
    Stream.takeUntil(() => size > limit),
    Stream.runForEach((piece) =>
      Effect.sync(() => {
        chunks.push(piece.bytes)
        size += piece.bytes.length
      })
    )
  )
  const all = new Uint8Array(size)
  let offset = 0
  for (const chunk of chunks) {
    all.set(chunk, offset)
    offset += chunk.length
  }
  const kept = all.subarray(0, limit)
  return { text: decode(size > limit ? kept.subarray(0, wholeCharacters(kept)) : kept), truncated: size > limit }
})
