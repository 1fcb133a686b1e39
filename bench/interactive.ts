/** Measures the time from the request for a sandbox to the first output of its command, over HTTP. */
import { Effect } from "effect"
import { setTimeout } from "node:timers/promises"
import { served } from "./castellan.ts"
import { columns, heading, row, type Size } from "./figures.ts"

export const about = "From POST /api/sandboxes to the first output of `node -v`, over HTTP, local provider."

const sizes = { whole: { warmups: 5, times: 100 }, quick: { warmups: 1, times: 5 } }

interface Server {
  readonly url: string
  readonly key: string
}

const interactive = async ({ key, url }: Server) => {
  const headers = { "x-api-key": key, "content-type": "application/json" }
  const start = performance.now()
  const body = JSON.stringify({ command: "node", args: ["-v"] })
  const response = await fetch(`${url}/api/sandboxes`, { method: "POST", headers, body })
  if (response.status !== 200) throw new Error(`create answered ${response.status}`)
  const made = (await response.json()) as { sandboxes: [{ runId: string }] }
  const created = performance.now() - start
  const log = await fetch(`${url}/api/tasks/runs/${made.sandboxes[0].runId}/logs`, { headers })
  const reader = log.body!.pipeThrough(new TextDecoderStream()).getReader()
  let said = ""
  while (!said.includes("event: output")) {
    const { done, value } = await reader.read()
    if (done) throw new Error(`the log ended without output: ${said}`)
    said += value
  }
  const first = performance.now() - start
  await reader.cancel()
  return { created, first }
}

type Times = ReadonlyArray<Awaited<ReturnType<typeof interactive>>>

const report = (name: string, times: Times, more = "") => {
  row(
    `${name}: sandbox created`,
    times.map(({ created }) => created)
  )
  row(
    `${name}: first output`,
    times.map(({ first }) => first),
    more
  )
}

const measure = async (server: Server, { times, warmups }: (typeof sizes)[Size]) => {
  columns()
  for (let i = 0; i < warmups; i++) await interactive(server)
  const sequential: Array<Times[number]> = []
  for (let i = 0; i < times; i++) sequential.push(await interactive(server))
  report("one after the other", sequential)

  const staggered = Array.from({ length: times }, async (_, index) => {
    await setTimeout(index * 100)
    return interactive(server)
  })
  report("one every 100 ms", await Promise.all(staggered))

  const start = performance.now()
  const burst = await Promise.all(Array.from({ length: times }, () => interactive(server)))
  report(`${times} at once`, burst, `all done after ${(performance.now() - start).toFixed(0)} ms`)
}

export const run = Effect.fnUntraced(function* (size: Size) {
  heading("Time to interactive: POST /api/sandboxes to the first output of `node -v`, local provider")
  const server = yield* served
  yield* Effect.tryPromise({ try: () => measure(server, sizes[size]), catch: (cause) => cause })
})
