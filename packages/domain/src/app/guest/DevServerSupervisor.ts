/** The script that supervises the dev server: it starts it, restarts it when it exits, and answers commands on a socket. */
import { script } from "./Script.ts"

/**
 * `$1` is the port. A command is one line: `restart` kills the server and starts another, `nudge` skips the pause before a
 * restart, `said` returns the end of the server's output.
 */
export const devServerSupervisor = script(`
const port = process.argv[1]
const vite = path.join("node_modules", "vite", "bin", "vite.js")
const flags = ["--host", "127.0.0.1", "--port", port, "--strictPort", "--clearScreen", "false"]
let child, timer, said = "", wait = 1000
const begin = () => {
  clearTimeout(timer)
  const since = performance.now()
  const one = spawn(process.execPath, [vite, ...flags], {
    stdio: ["ignore", "pipe", "pipe"], detached: true, env: { ...process.env, NO_COLOR: "1", BROWSER: "none" }
  })
  child = one
  for (const name of ["stdout", "stderr"]) {
    one[name].on("data", (bytes) => { process[name].write(bytes); said = (said + bytes).slice(-8192) })
  }
  const over = () => {
    if (one.isOver) return
    one.isOver = true
    if (child !== one) return
    wait = performance.now() - since > 10000 ? 1000 : Math.min(8000, wait * 2)
    timer = setTimeout(begin, wait)
  }
  one.on("error", over)
  one.on("exit", over)
}
const end = (one) => new Promise((resolve) => {
  if (one.isOver) return resolve()
  one.once("exit", resolve)
  try { process.kill(-one.pid, "SIGKILL") } catch { resolve() }
})
const answers = {
  restart: async () => {
    const one = child
    child = undefined
    await end(one)
    wait = 1000
    said = ""
    begin()
    return {}
  },
  nudge: async () => {
    if (child.isOver) begin()
    return {}
  },
  said: async () => ({ said, runs: !child.isOver })
}
let turn = Promise.resolve()
const serve = (socket) => {
  socket.on("error", () => {})
  let line = ""
  socket.setEncoding("utf8").on("data", (text) => {
    line += text
    const answer = line.endsWith("\\n") ? answers[line.trim()] : undefined
    if (answer === undefined) return
    turn = turn.then(answer).then((value) => socket.end(JSON.stringify(value)), () => socket.destroy())
  })
}
listening("keeper", serve).then((server) => {
  if (server === undefined) process.exit(3)
  begin()
})
`)
