/** The `fetch` that the SDK is given. */

/** The code under which the SDK tells of a stream whose connection broke. */
export const connectionBroken = "castellan_cut_off"

const newline = 10

const broken = new TextEncoder().encode(
  `${JSON.stringify({ stream: "error", data: { code: connectionBroken, message: "The connection broke" } })}\n`
)

/**
 * A body of lines, cut where lines end: the SDK decodes each piece by itself, and would damage a character that two
 * pieces share. A connection that breaks is told as a line, for the SDK would print it to the console.
 */
export const wholeLines = (body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> => {
  const reader = body.getReader()
  let begun: Array<Uint8Array> = []
  return new ReadableStream({
    pull: async (controller) => {
      while (true) {
        const read = await reader.read().catch(() => undefined)
        if (read === undefined) {
          controller.enqueue(broken)
          return controller.close()
        }
        if (read.done) {
          if (begun.length > 0) controller.enqueue(Buffer.concat(begun))
          return controller.close()
        }
        const end = read.value.lastIndexOf(newline) + 1
        if (end === 0) {
          begun.push(read.value)
          continue
        }
        controller.enqueue(Buffer.concat([...begun, read.value.subarray(0, end)]))
        begun = end < read.value.length ? [read.value.subarray(end)] : []
        return
      }
    },
    cancel: (reason) => reader.cancel(reason)
  })
}

/** What asks as `ask` does, and gives streams of lines in whole lines. */
export const lineFetch =
  (ask: typeof globalThis.fetch): typeof globalThis.fetch =>
  async (input, init) => {
    const response = await ask(input, init)
    if (response.body === null || response.headers.get("content-type") !== "application/x-ndjson") return response
    const { headers, status, statusText } = response
    const whole = new Response(wholeLines(response.body), { headers, status, statusText })
    // The SDK reads where an answer came from; one that is made has no such place.
    Object.defineProperty(whole, "url", { value: response.url })
    return whole
  }
