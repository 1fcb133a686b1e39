/**
 * The source of the program that creates a sandbox's listening sockets, for `node -e`. Its process enters the
 * sandbox's network namespace only, hands the sockets to the server, and exits. The sockets stay in that namespace.
 *
 * Its arguments are the number and start time of the sandbox's first process, which are checked after entering, because
 * the number may have been reused, and the TCP ports.
 */
export const makeSockets = `
const dgram = require("node:dgram")
const { readFileSync } = require("node:fs")
const net = require("node:net")
const [init, startTime, ...ports] = process.argv.slice(1)

const isThere = () => {
  try {
    const line = readFileSync("/proc/" + init + "/stat", "utf8")
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ")
    return fields[19] === startTime && !"ZX".includes(fields[0])
  } catch {
    return false
  }
}

const fail = (error) => process.send({ failed: error.code || String(error) }, () => process.exit(1))

const send = (port, socket) =>
  new Promise((resolve, reject) => process.send({ port }, socket, (error) => (error ? reject(error) : resolve())))

const names = () =>
  new Promise((resolve, reject) => {
    const socket = dgram.createSocket("udp4")
    socket.once("error", reject).bind(53, "127.0.0.1", () => resolve(send(53, socket)))
  })

const listening = (port) =>
  new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once("error", reject).listen({ port, host: "0.0.0.0" }, () => resolve(send(port, server)))
  })

if (!isThere()) process.exit(1)
// The DNS socket comes first: the server that has it serves the network.
names()
  .then(() => Promise.all(ports.map(Number).map(listening)))
  .then(() => process.send({ done: true }, () => process.exit(0)))
  .catch(fail)
`
