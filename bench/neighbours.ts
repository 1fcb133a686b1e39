/** Measures how one tenant's largest responses slow down health checks and creates of other tenants. */
import { Effect } from "effect"
import { setTimeout } from "node:timers/promises"
import { served } from "./castellan.ts"
import { columns, heading, row, type Size, timed } from "./figures.ts"

export const about =
  "GET /health and POST /api/sandboxes while another client reads large listings and files of a sandbox."

const sizes = {
  whole: { files: 150_000, megabytes: 512, times: 50 },
  quick: { files: 5000, megabytes: 16, times: 5 }
}

const path = "/home/user"

const measure = async (url: string, key: string, { files, megabytes, times }: (typeof sizes)[Size]) => {
  const headers = { "x-api-key": key, "content-type": "application/json" }

  const call = async (method: string, route: string, body?: object) => {
    const response = await fetch(`${url}${route}`, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) })
    if (!response.ok) throw new Error(`${method} ${route} answered ${response.status}: ${await response.text()}`)
    return response
  }

  const created = async (command: string, args: ReadonlyArray<string>) => {
    const answer = await call("POST", "/api/sandboxes", { command, args })
    return ((await answer.json()) as { sandboxes: [{ sandboxId: string; runId: string }] }).sandboxes[0]
  }

  const ended = async (run: string) => {
    while (true) {
      const answer = (await (await call("GET", `/api/tasks/runs?runId=${run}`)).json()) as {
        runs: [{ status: string }]
      }
      const [{ status }] = answer.runs
      if (status === "COMPLETED") return
      if (status === "FAILED") throw new Error("The files could not be created")
      await setTimeout(100)
    }
  }

  const rounds = async (name: string) => {
    const health: Array<number> = []
    const creates: Array<number> = []
    for (let i = 0; i < times; i++) {
      await timed(health, async () => (await call("GET", "/health")).text())
      const { sandboxId } = await timed(creates, () => created("true", []))
      await call("DELETE", `/api/sandboxes/${sandboxId}`)
    }
    row(`${name}: GET /health`, health)
    row(`${name}: POST /api/sandboxes`, creates)
  }

  const make = `mkdir -p tree/{0..99}; seq 0 ${files - 1} | sed 's#\\(.*\\)\\(..\\)$#tree/\\2/file-\\1\\2#' | xargs touch; head -c ${megabytes}M /dev/zero > big`
  const large = await created("bash", ["-c", make])
  await ended(large.runId)
  columns()
  await rounds("alone")

  let answers = 0
  let isOver = false
  const listings = async () => {
    let cursor = ""
    while (!isOver) {
      const query = new URLSearchParams({ path, recursive: "true", limit: "1000", ...(cursor ? { cursor } : {}) })
      const page = await call("GET", `/api/sandboxes/${large.sandboxId}/files?${query}`)
      cursor = ((await page.json()) as { next_cursor?: string }).next_cursor ?? ""
      answers++
    }
  }
  const downloads = async () => {
    while (!isOver) {
      const answer = await call("GET", `/api/sandboxes/${large.sandboxId}/file?path=${path}/big`)
      for await (const _ of answer.body!) if (isOver) break
      answers++
    }
  }
  const busy = [listings(), downloads()]
  await rounds("beside large answers")
  isOver = true
  await Promise.all(busy)
  console.log(`(${answers} large responses were read during the measurement)`)
}

export const run = Effect.fnUntraced(function* (size: Size) {
  const { files, megabytes } = sizes[size]
  heading(`Neighbours: while a sandbox's ${files} files are listed and a file of ${megabytes} MiB is read`)
  const { key, url } = yield* served
  yield* Effect.tryPromise({ try: () => measure(url, key, sizes[size]), catch: (cause) => cause })
})
