import { connectionBroken, wholeLines, lineFetch } from "@castellan/adapters/vercel/LineFetch.ts"
import { assert, describe, it } from "@effect/vitest"

const text = `${["{}", '"€uro 日本語 🦀"', "3"].join("\n")}\n`

const byteByByte = (bytes: Uint8Array, end: (controller: ReadableStreamDefaultController) => void) =>
  new ReadableStream<Uint8Array>({
    start: (controller) => {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte))
      end(controller)
    }
  })

const piecesOf = async (body: ReadableStream<Uint8Array>) => {
  const pieces: Array<string> = []
  for await (const piece of body) pieces.push(Buffer.from(piece).toString())
  return pieces
}

describe("A stream of lines from Vercel", () => {
  it("arrives in whole lines for any split, including an unfinished last line", async () => {
    const bytes = Buffer.from(`${text}rest`)
    const pieces = await piecesOf(wholeLines(byteByByte(bytes, (controller) => controller.close())))
    assert.deepStrictEqual(pieces, ["{}\n", '"€uro 日本語 🦀"\n', "3\n", "rest"])
  })

  it("ends in an error line and without a partial line if the connection breaks", async () => {
    let pulls = 0
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        if (pulls++ === 0) controller.enqueue(Buffer.from(`${text}in pa`))
        else controller.error(new TypeError("terminated"))
      }
    })
    const pieces = await piecesOf(wholeLines(body))
    assert.strictEqual(pieces[0], text)
    assert.strictEqual(JSON.parse(pieces[1]!).data.code, connectionBroken)
    assert.strictEqual(pieces.length, 2)
  })

  it("is the only part of a response that changes", async () => {
    const answers = [
      new Response(text, { headers: { "content-type": "application/x-ndjson", "x-other": "kept" } }),
      new Response(text, { headers: { "content-type": "application/json" } }),
      new Response(null, { status: 204 })
    ]
    let calls = 0
    const ask = lineFetch(async () => answers[calls++]!)
    const [lines, json, nothing] = [await ask("https://one"), await ask("https://two"), await ask("https://three")]
    assert.deepStrictEqual([await lines.text(), lines.headers.get("x-other")], [text, "kept"])
    assert.deepStrictEqual([json, nothing], [answers[1], answers[2]])
  })
})
