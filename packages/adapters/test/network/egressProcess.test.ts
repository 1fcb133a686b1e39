import * as Dns from "../../src/network/Dns.ts"
import * as EgressProcess from "../../src/network/EgressProcess.ts"
import * as Names from "../../src/network/Names.ts"
import * as Dialer from "../../src/network/Dialer.ts"
import { assert, describe, it } from "@effect/vitest"
import dnsPacket from "dns-packet"
import { Effect } from "effect"
import { createSocket } from "node:dgram"
import { once } from "node:events"
import { readdirSync, readFileSync } from "node:fs"
import { createServer } from "node:net"
import { egressTo, exchange } from "./internet.ts"

/** The egress processes that this process has started. */
const egressProcesses = () =>
  readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        const [, parent] = / [A-Z] (\d+) /.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))!
        return Number(parent) === process.pid && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("egress-process")
      } catch {
        return false
      }
    })
    .map(Number)

const started = (options: EgressProcess.EgressProcessOptions = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => EgressProcess.make(options)),
    ({ end }) => Effect.sync(end)
  )

const eventually = (holds: () => boolean) =>
  Effect.promise(async () => {
    for (let n = 0; n < 100 && !holds(); n++) await new Promise((resolve) => setTimeout(resolve, 50))
    assert.isTrue(holds())
  })

describe("The egress process", () => {
  it.live("ends when it is told to", () =>
    Effect.gen(function* () {
      const before = egressProcesses()
      const egress = yield* started()
      yield* Effect.promise(() => egress.serve("a", { policy: "public", secrets: {} }))
      assert.lengthOf(egressProcesses(), before.length + 1)
      egress.end()
      yield* eventually(() => egressProcesses().length === before.length && !egress.serves("a"))
    }).pipe(Effect.scoped)
  )

  it.live("says that it can't be configured, and does not let its callers wait", () =>
    Effect.gen(function* () {
      const egress = yield* started({ authority: { certificate: "none", key: "none" } })
      const failed = yield* Effect.promise(() =>
        egress.serve("a", { policy: "public", secrets: {} }).then(
          () => "served",
          (error: Error) => error.message
        )
      )
      assert.strictEqual(failed, "the egress process ended")
    }).pipe(Effect.scoped)
  )

  it.live("lets nobody wait for a socket that it had not taken when it ended", () =>
    Effect.gen(function* () {
      const before = egressProcesses()
      const egress = yield* started()
      yield* Effect.promise(() => egress.serve("a", { policy: "public", secrets: {} }))
      const [pid] = egressProcesses().filter((pid) => !before.includes(pid))
      process.kill(pid!, "SIGSTOP")
      const servers = [createServer(), createServer(), createServer()]
      for (const server of servers) yield* Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening"))
      const handed = servers.map((server) => egress.handOver("a", 80, server))
      process.kill(pid!, "SIGKILL")
      const all = yield* Effect.timeoutOption(
        Effect.promise(() => Promise.all(handed)),
        3000
      )
      assert.strictEqual(all._tag, "Some")
      assert.isTrue(servers.every((server) => !server.listening))
      yield* Effect.promise(() => egress.serve("a", { policy: "public", secrets: {} }))
      assert.isTrue(egress.serves("a"))
    }).pipe(Effect.scoped)
  )
})

describe("The addresses that are dialled", () => {
  it.live("are none of this host, though they may be public", () =>
    Effect.gen(function* () {
      const own = ["93.184.216.34", "2606:4700::1111"]
      for (const address of own) {
        const dialer = Dialer.make({
          own: () => own,
          lookup: (_, done) => done(null, [{ address, family: address.includes(":") ? 6 : 4 }])
        })
        const failed = yield* Effect.promise(() =>
          dialer.check("this-host.example.com").then(
            () => "reachable",
            (error: NodeJS.ErrnoException) => error.code
          )
        )
        assert.strictEqual(failed, "ENOPUBLICADDRESS")
      }
    })
  )

  it.live("are the public ones of a name that has others as well", () =>
    Effect.gen(function* () {
      const { open, reasons } = yield* egressTo({
        policy: "public",
        lookup: (_, done) =>
          done(null, [
            { address: "127.0.0.1", family: 4 },
            { address: "::ffff:10.0.0.1", family: 6 },
            { address: "fe80::1%lo", family: 6 },
            { address: "", family: 4 }
          ])
      })
      yield* exchange(yield* open("mixed.example.com", 22), "\0")
      assert.deepStrictEqual(reasons(), ["private_address"])
    }).pipe(Effect.scoped)
  )
})

describe("The names of a sandbox", () => {
  it.live("are answered after any packets, and beside a name whose servers never answer", () =>
    Effect.gen(function* () {
      const socket = createSocket("udp4")
      const client = createSocket("udp4")
      yield* Effect.acquireRelease(
        Effect.promise(async () => {
          for (const one of [socket, client]) await once(one.bind(0, "127.0.0.1"), "listening")
        }),
        () => Effect.sync(() => [socket, client].forEach((one) => one.close()))
      )
      const lookup: Dialer.Lookup = (name, done) => {
        if (!name.startsWith("never")) done(null, [{ address: "93.184.216.34", family: 4 }])
      }
      const dialer = Dialer.make({ lookup })
      Dns.make({ policy: () => "public", names: Names.make(), dialer, refused: () => undefined }).serve(socket)
      const ask = (packet: Uint8Array) => client.send(packet, socket.address().port, "127.0.0.1")
      const query = (name: string, id = 1) =>
        dnsPacket.encode({ type: "query", id, questions: [{ type: "A", name }], flags: dnsPacket.RECURSION_DESIRED })
      const whole = query("www.example.com")
      for (let length = 0; length < whole.length; length++) ask(whole.subarray(0, length))
      let seed = 7
      const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below
      for (let n = 0; n < 3000; n++) {
        const bytes = Buffer.from(whole)
        for (let changes = random(6); changes >= 0; changes--) bytes[random(bytes.length)] = random(256)
        ask(bytes)
      }
      ask(Buffer.concat([whole, Buffer.alloc(60_000, 0xc0)]))
      ask(Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1]))
      for (let n = 0; n < 20; n++) ask(query(`never${n}.example.com`))
      const answered = Effect.promise(
        () =>
          new Promise<string>((resolve) => {
            const asking = setInterval(() => ask(query("www.example.com", 4711)), 50)
            client.on("message", (message) => {
              const answer = dnsPacket.decode(message)
              if (answer.id !== 4711 || answer.answers?.length !== 1) return
              clearInterval(asking)
              resolve((answer.answers[0] as { data: string }).data)
            })
          })
      )
      assert.match(yield* answered, /^127\.66\.0\.\d+$/)
    }).pipe(Effect.scoped)
  )
})
