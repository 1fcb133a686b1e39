import { type Output, OutputPosition, type OutputStream } from "@castellan/domain/sandbox/Command.ts"
import { readFirst, toText } from "@castellan/domain/sandbox/OutputText.ts"
import { wholeCharacters } from "@castellan/domain/utf8.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as fc from "fast-check"

const utf8 = new TextEncoder()

/** The bytes of a text, split at the given positions. */
const pieces = (stream: OutputStream, text: string, cuts: ReadonlyArray<number>): ReadonlyArray<Output> => {
  const bytes = utf8.encode(text)
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  return [...ends, bytes.length].map((end, index, all) => ({
    stream,
    bytes: bytes.subarray(index === 0 ? 0 : all[index - 1]!, end),
    next: new OutputPosition({ stdout: 0, stderr: 0, [stream]: end })
  }))
}

const textOf = (output: ReadonlyArray<Output>) => Stream.runCollect(toText(Stream.fromIterable(output)))

const anyText = fc.string({ unit: "binary", maxLength: 60 }).filter((text) => text.isWellFormed())

describe("OutputText", () => {
  it("decodes the same text however its bytes were split", () =>
    fc.assert(
      fc.asyncProperty(anyText, fc.array(fc.nat()), async (text, cuts) => {
        const read = await Effect.runPromise(textOf(pieces("stdout", text, cuts)))
        assert.strictEqual(read.map((piece) => piece.text).join(""), text)
      })
    ))

  it("continues after any piece without losing or repeating a character", () =>
    fc.assert(
      fc.asyncProperty(anyText, fc.array(fc.nat()), fc.nat(), async (text, cuts, stop) => {
        const read = await Effect.runPromise(textOf(pieces("stderr", text, cuts)))
        const seen = read.slice(0, stop % (read.length + 1))
        const from = seen.at(-1)?.next.stderr ?? 0
        const rest = new TextDecoder().decode(utf8.encode(text).subarray(from))
        assert.strictEqual(seen.map((piece) => piece.text).join("") + rest, text)
      })
    ))

  it.effect("decodes the two streams independently", () =>
    Effect.gen(function* () {
      const euro = utf8.encode("€")
      const at = (stdout: number, stderr: number) => new OutputPosition({ stdout, stderr })
      const read = yield* textOf([
        { stream: "stdout", bytes: euro.subarray(0, 1), next: at(1, 0) },
        { stream: "stderr", bytes: euro.subarray(0, 2), next: at(1, 2) },
        { stream: "stdout", bytes: euro.subarray(1), next: at(3, 2) },
        { stream: "stderr", bytes: euro.subarray(2), next: at(3, 3) }
      ])
      assert.deepStrictEqual(read, [
        { stream: "stdout", text: "€", next: at(3, 0) },
        { stream: "stderr", text: "€", next: at(3, 3) }
      ])
    })
  )

  it.effect("truncates long output after a complete character, and reports it", () =>
    Effect.gen(function* () {
      const cut = yield* readFirst(Stream.fromIterable(pieces("stdout", "ab€cd", [])), 4)
      assert.deepStrictEqual(cut, { text: "ab", truncated: true })
      const whole = yield* readFirst(Stream.fromIterable(pieces("stdout", "ab€", [])), 5)
      assert.deepStrictEqual(whole, { text: "ab€", truncated: false })
    })
  )

  it("decodes invalid UTF-8 without failing", () => {
    assert.strictEqual(wholeCharacters(new Uint8Array([0x80, 0x80, 0x80, 0x80])), 4)
    assert.strictEqual(wholeCharacters(new Uint8Array([0xff])), 0)
    assert.strictEqual(wholeCharacters(new Uint8Array([])), 0)
  })
})
