/** The `fetch` that the SDK gets: it delivers newline-delimited JSON in whole lines. */

/** The error code that the SDK reports for a stream whose connection broke. */
export const connectionBroken = "castellan_cut_off"

const newline = 10

const brokenLine = new TextEncoder().encode(
  `${JSON.stringify({ stream: "error", data: { code: connectionBroken, message: "The connection broke" } })}\n`
)

/**
 * Splits a body of lines only at line ends: the SDK decodes each chunk by itself, and would damage a character that two
 * chunks share. A broken connection becomes a line of its own, because the SDK would print it to the console.
 */
export const wholeLines = (body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> => {
  const reader = body.getReader()
  let partialLine: Array<Uint8Array> = []
  return new ReadableStream({
    pull: async (controller) => {
      while (true) {
        const read = await reader.read().catch(() => undefined)
        if (read === undefined) {
          controller.enqueue(brokenLine)
          return controller.close()
        }
        if (read.done) {
          if (partialLine.length > 0) controller.enqueue(Buffer.concat(partialLine))
          return controller.close()
        }
        const end = read.value.lastIndexOf(newline) + 1
        if (end === 0) {
          partialLine.push(read.value)
          continue
        }
        controller.enqueue(Buffer.concat([...partialLine, read.value.subarray(0, end)]))
        partialLine = end < read.value.length ? [read.value.subarray(end)] : []
        return
      }
    },
    cancel: (reason) => reader.cancel(reason)
  })
}

/** Wraps a `fetch` so that NDJSON responses arrive in whole lines. Other responses are left as they are. */
export const lineFetch =
  (fetch: typeof globalThis.fetch): typeof globalThis.fetch =>
  async (input, init) => {
    const response = await fetch(input, init)
    if (response.body === null || response.headers.get("content-type") !== "application/x-ndjson") return response
    const { headers, status, statusText } = response
    const whole = new Response(wholeLines(response.body), { headers, status, statusText })
    // The SDK reads the URL of a response, and a constructed response has none.
    Object.defineProperty(whole, "url", { value: response.url })
    return whole
  }
