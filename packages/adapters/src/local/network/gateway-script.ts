/**
 * The program that stands in a sandbox's network for the server, as `node -e` takes it. Its process has entered that
 * network and nothing else: nothing inside can see or end it, and it keeps no mount busy. Not a byte of a connection
 * passes through it: what it dials, or is dialled by, goes to the server as a socket.
 *
 * Its arguments: the sandbox's first process and when that began, looked at once the network is entered, so that it was
 * not that of another with the same number; and the port to be dialled on, 0 for none. Servers that share a sandbox have
 * one of these each, on one port.
 */
export const gateway = `
const { readFileSync } = require("node:fs")
const net = require("node:net")
const [init, startTime, port] = process.argv.slice(1)

const isThere = () => {
  try {
    const line = readFileSync("/proc/" + init + "/stat", "utf8")
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ")
    return fields[19] === startTime && !"ZX".includes(fields[0])
  } catch {
    return false
  }
}
if (!isThere()) process.exit(1)
setInterval(() => isThere() || process.exit(), 1000)
process.on("disconnect", () => process.exit())

const tell = (message, socket) => process.send(message, socket, () => {})

const dial = (id, port, [host, ...others]) => {
  const socket = new net.Socket()
  socket.pause()
  socket.setTimeout(2000, () => socket.destroy(new Error("nobody accepts it")))
  socket.on("error", () => (others.length > 0 ? dial(id, port, others) : tell({ id })))
  socket.once("connect", () => {
    socket.setTimeout(0)
    socket.removeAllListeners("error").on("error", () => {})
    tell({ id }, socket)
  })
  socket.connect({ port, host })
}
process.on("message", ({ id, port }) => dial(id, port, ["127.0.0.1", "::1"]))

const ready = () => tell({ ready: true })
if (port === "0") ready()
else {
  const server = net.createServer({ pauseOnConnect: true }, (socket) => tell({ dialled: true }, socket))
  // A program inside may have taken the port; then that is what others inside reach there.
  server.on("error", ready)
  server.listen({ port: Number(port), host: "127.0.0.1", reusePort: true }, ready)
}
`
