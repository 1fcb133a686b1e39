/**
 * The program of a gateway, for `node -e`. Its process has entered the sandbox's network and no other namespace: nothing
 * inside can see or kill it, and it keeps no mount busy. It passes each connection to the server as a socket, so that no byte
 * of a connection goes through it.
 *
 * Its arguments are the number and start time of the sandbox's first process, which it compares after it has entered the
 * network, because another process may have got that number; and the port to listen on, 0 for none. Servers that share a
 * sandbox have a gateway each, on the same port.
 */
export const gateway = `
const { readFileSync } = require("node:fs")
const net = require("node:net")
const [init, startTime, port] = process.argv.slice(1)

const isAlive = () => {
  try {
    const line = readFileSync("/proc/" + init + "/stat", "utf8")
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ")
    return fields[19] === startTime && !"ZX".includes(fields[0])
  } catch {
    return false
  }
}
if (!isAlive()) process.exit(1)
setInterval(() => isAlive() || process.exit(), 1000)
process.on("disconnect", () => process.exit())

const report = (message, socket) => process.send(message, socket, () => {})

const dial = (id, port, [host, ...others]) => {
  const socket = new net.Socket()
  socket.pause()
  socket.setTimeout(2000, () => socket.destroy(new Error("the connection was not accepted in time")))
  socket.on("error", () => (others.length > 0 ? dial(id, port, others) : report({ id })))
  socket.once("connect", () => {
    socket.setTimeout(0)
    socket.removeAllListeners("error").on("error", () => {})
    report({ id }, socket)
  })
  socket.connect({ port, host })
}
process.on("message", ({ id, port }) => dial(id, port, ["127.0.0.1", "::1"]))

const ready = () => report({ ready: true })
if (port === "0") ready()
else {
  const server = net.createServer({ pauseOnConnect: true }, (socket) => report({ dialled: true }, socket))
  // A program inside may have taken the port. Then programs inside reach that one.
  server.on("error", ready)
  server.listen({ port: Number(port), host: "127.0.0.1", reusePort: true }, ready)
}
`
