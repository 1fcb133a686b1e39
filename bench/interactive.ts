/** Time to interactive: from the request for a sandbox to the first output of its command, over HTTP, on this host. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { columns, heading, row } from "./figures.ts"

interface Server {
  readonly child: ChildProcess
  readonly url: string
  readonly key: string
}

const serve = async (directory: string): Promise<Server> => {
  const main = fileURLToPath(new URL("../packages/http/src/main.ts", import.meta.url))
  const env = {
    PATH: "/usr/local/bin:/usr/bin:/bin",
    PORT: "0",
    CASTELLAN_DATA_DIR: directory,
    CASTELLAN_LIVE_SANDBOXES: "1000000"
  }
  const child = spawn(process.execPath, [main], { env, stdio: ["ignore", "pipe", "inherit"] })
  let said = ""
  for await (const chunk of child.stdout.setEncoding("utf8")) {
    said += chunk
    const url = /listens on (\S+)/.exec(said)?.[1]
    const key = /^ {2}(cst_\w+)$/m.exec(said)?.[1]
    if (url !== undefined && key !== undefined) return { child, url, key }
  }
  throw new Error(`the server did not start: ${said}`)
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

export const run = async () => {
  heading("Time to interactive: POST /api/sandboxes to the first output of `node -v`, local provider")
  const directory = await mkdtemp(join(tmpdir(), "castellan-bench-"))
  const server = await serve(directory)
  try {
    columns()
    for (let i = 0; i < 5; i++) await interactive(server)
    const sequential: Array<Times[number]> = []
    for (let i = 0; i < 100; i++) sequential.push(await interactive(server))
    report("one after the other", sequential)

    const staggered = Array.from({ length: 100 }, async (_, index) => {
      await new Promise((resolve) => setTimeout(resolve, index * 100))
      return interactive(server)
    })
    report("one every 100 ms", await Promise.all(staggered))

    const start = performance.now()
    const burst = await Promise.all(Array.from({ length: 100 }, () => interactive(server)))
    report("100 at once", burst, `all done after ${(performance.now() - start).toFixed(0)} ms`)
  } finally {
    const headers = { "x-api-key": server.key }
    await fetch(`${server.url}/health`, { headers })
    server.child.kill("SIGTERM")
    await once(server.child, "exit")
    await endAll(directory)
    await rm(directory, { recursive: true, force: true })
  }
}

/** Sandboxes outlive their server; those of a benchmark need not. */
const endAll = async (directory: string) => {
  const { readdir, readFile } = await import("node:fs/promises")
  const sandboxes = join(directory, "local", "sandboxes")
  for (const name of await readdir(sandboxes)) {
    const init = await readFile(join(sandboxes, name, "init"), "utf8").catch(() => "")
    try {
      process.kill(Number.parseInt(init, 10), "SIGKILL")
    } catch {
      // It has ended already.
    }
  }
}
