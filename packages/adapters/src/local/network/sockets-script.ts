/**
 * The program that makes the listening sockets of a sandbox's way out, as `node -e` takes it. Its process enters the
 * sandbox's network and nothing else of it, hands the sockets to the server, and ends. The sockets stay in that network.
 *
 * Its arguments: the sandbox's first process and when that began, checked once the network is entered, so that it was not
 * that of another with the same number; then the TCP ports.
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
// The socket for names comes first: whoever has it serves the network.
names()
  .then(() => Promise.all(ports.map(Number).map(listening)))
  .then(() => process.send({ done: true }, () => process.exit(0)))
  .catch(fail)
`
