/**
 * Scripts that `node` runs inside an app's sandbox. Each prints its result as JSON. Input reaches a script only through its
 * arguments, never through its text.
 */

/** The text of a program for `node -e`. */
export type Script = string & { readonly isScript: true }

/** Size limit of a script's output in bytes. Longer output is rejected: it comes from where untrusted code runs. */
export const maxAnswerBytes = 1024 * 1024

/**
 * Helpers that every script starts with. `locked` holds a lock in the form of an abstract socket: the kernel gives it to
 * one process of the sandbox and releases it when that process ends for any reason. `ask` sends a line to the dev server's
 * supervisor over another abstract socket.
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
