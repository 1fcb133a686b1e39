/** Programs that run inside an app's sandbox, where node is, and say what they found as JSON. None is put together from input. */

/** A program for `node -e`, and what all of them have. */
export type Script = string & { readonly isScript: true }

/** Bytes of a script's answer that are read; a longer one is refused, since it comes from where strangers' code runs. */
export const maxAnswerBytes = 1024 * 1024

/**
 * What each begins with. A lock is an abstract socket, which the kernel gives to one process of the sandbox and takes back
 * when that ends, however it does; the dev server's keeper is asked in the same way.
 */
const prelude = `
const fs = require("node:fs"), net = require("node:net"), path = require("node:path")
const http = require("node:http"), { spawn } = require("node:child_process")
const root = fs.realpathSync(process.cwd())
const own = process.env.CASTELLAN_SANDBOX || "app"
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const listening = (what, serve) => new Promise((resolve) => {
  const server = net.createServer(serve)
  server.once("error", () => resolve(undefined))
  server.listen("\\0castellan " + what + " " + own, () => resolve(server))
})
const locked = async (work) => {
  let lock
  while ((lock = await listening("lock", (socket) => socket.destroy())) === undefined) await pause(50)
  try { return await work() } finally { lock.close() }
}
const ask = (line) => new Promise((resolve) => {
  const socket = net.connect("\\0castellan keeper " + own)
  let answer = ""
  socket.setEncoding("utf8").on("data", (text) => (answer += text)).on("error", () => resolve(undefined))
  socket.on("end", () => { try { resolve(JSON.parse(answer)) } catch { resolve(undefined) } })
  socket.setTimeout(5000, () => socket.destroy()).on("close", () => resolve(undefined))
  socket.write(line + "\\n")
})
const run = (command, args, { deadline, ...options }) => new Promise((resolve) => {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], detached: true, ...options })
  let output = "", late = false
  const hear = (text) => { if (output.length < 65536) output += text }
  for (const pipe of [child.stdout, child.stderr]) pipe.setEncoding("utf8").on("data", hear)
  const timer = setTimeout(() => { late = true; try { process.kill(-child.pid, "SIGKILL") } catch {} }, deadline)
  const over = (code) => { clearTimeout(timer); resolve({ code, output, late }) }
  child.on("error", (cause) => { hear(cause.message); over(127) })
  child.on("exit", (code) => setTimeout(over, 20, code === null ? 137 : code))
})
const main = (work) => work().then((answer) => process.stdout.write(JSON.stringify(answer)), (cause) => {
  process.stderr.write(String(cause && cause.message))
  process.exitCode = 1
})
`

export const script = (source: string): Script => `${prelude}${source}` as Script
