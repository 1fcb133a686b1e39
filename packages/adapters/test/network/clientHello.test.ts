import { type Hello, read } from "../../src/network/ClientHello.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duplex } from "node:stream"
import { connect } from "node:tls"

const helloTo = (servername: string, more: object = {}) =>
  new Promise<Buffer>((resolve) => {
    const wire = new Duplex({ read: () => undefined, write: (bytes: Buffer) => resolve(bytes) })
    connect({ socket: wire, servername, ...more }).on("error", () => undefined)
  })

const u16 = (value: number) => [value >> 8, value & 0xff]

const extension = (type: number, data: ReadonlyArray<number>) => [...u16(type), ...u16(data.length), ...data]

const serverName = (...names: ReadonlyArray<readonly [number, string]>) => {
  const list = names.flatMap(([type, name]) => [type, ...u16(name.length), ...Buffer.from(name)])
  return extension(0, [...u16(list.length), ...list])
}

/** A ClientHello with those extensions, in one record. */
const makeHello = (...extensions: ReadonlyArray<ReadonlyArray<number>>) => {
  const all = extensions.flat()
  const body = [3, 3, ...Array.from({ length: 32 }, () => 7), 0, ...u16(2), 0x13, 1, 1, 0, ...u16(all.length), ...all]
  const message = [1, 0, ...u16(body.length), ...body]
  return Buffer.from([22, 3, 1, ...u16(message.length), ...message])
}

/** The same message in records of `size` bytes. */
const split = (hello: Buffer, size: number) => {
  const message = hello.subarray(5)
  const records = []
  for (let at = 0; at < message.length; at += size) {
    const piece = message.subarray(at, at + size)
    records.push(Buffer.from([22, 3, 1, ...u16(piece.length)]), piece)
  }
  return Buffer.concat(records)
}

const nameIn = (hello: Hello) => (hello._tag === "Hello" ? [hello.name, hello.end] : hello._tag)

describe("The parser of a TLS ClientHello", () => {
  it("returns the server name once the message is complete, in one record or several", async () => {
    for (const options of [{}, { maxVersion: "TLSv1.2" }, { ALPNProtocols: ["h2", "http/1.1"] }]) {
      const hello = await helloTo("Registry.Example.com", options)
      for (const bytes of [hello, split(hello, Math.ceil(hello.length / 3))]) {
        for (let length = 0; length < bytes.length; length++) {
          assert.strictEqual(read(bytes.subarray(0, length))._tag, "Partial")
        }
        const expected = ["registry.example.com", bytes.length]
        assert.deepStrictEqual(nameIn(read(bytes)), expected)
        assert.deepStrictEqual(nameIn(read(Buffer.concat([bytes, Buffer.from("more")]))), expected)
      }
    }
  })

  it("rejects a message in which servers could read different names", () => {
    const [good, other] = [serverName([0, "good.test"]), serverName([0, "other.test"])]
    assert.deepStrictEqual(nameIn(read(makeHello(good))), ["good.test", makeHello(good).length])
    const bad: Record<string, Buffer> = {
      "two server names in two extensions": makeHello(good, other),
      "two server names in one extension": makeHello(serverName([0, "good.test"], [0, "other.test"])),
      "a name of another type": makeHello(serverName([1, "good.test"])),
      "a name of another type before": makeHello(serverName([1, "x"], [0, "good.test"])),
      "an empty name": makeHello(serverName([0, ""])),
      "an empty list": makeHello(extension(0, [0, 0])),
      "bytes after the list": makeHello(extension(0, [...good.slice(4), 1])),
      "a NUL in the name": makeHello(serverName([0, "good.test\0.other.test"])),
      "a repeated extension": makeHello(good, extension(5, []), extension(5, [])),
      "bytes after the extensions": Buffer.concat([makeHello(good).subarray(0, -1), Buffer.from([0, 0])]),
      "another message in its record": (() => {
        const hello = makeHello(good)
        const more = Buffer.concat([hello, Buffer.from([1, 0, 0, 0])])
        more.writeUInt16BE(hello.length - 1, 3)
        return more
      })(),
      "one byte in each record": split(makeHello(good), 1),
      "no hello": Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0]),
      "SSL 2": Buffer.from([0x80, 46, 1, 3, 1]),
      "a record of nothing": Buffer.from([22, 3, 1, 0, 0]),
      "a record that is too long": Buffer.from([22, 3, 1, 0x40, 1]),
      "a message that is too long": Buffer.from([22, 3, 1, 0, 4, 1, 0, 0x40, 1])
    }
    for (const [what, bytes] of Object.entries(bad)) assert.strictEqual(read(bytes)._tag, "Malformed", what)
  })

  it("reports that the intended name may be encrypted", () => {
    for (const type of [0xfe0d, 0xffce]) {
      const hello = read(makeHello(serverName([0, "good.test"]), extension(type, [0])))
      assert.isTrue(hello._tag === "Hello" && hello.isHidden)
    }
  })

  it("never fails or reads beyond the end on random changes", async () => {
    const original = await helloTo("good.test")
    let seed = 1
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed % below
    }
    for (let n = 0; n < 20_000; n++) {
      const bytes = Buffer.from(split(original, 1 + random(original.length)))
      for (let changes = random(5); changes >= 0; changes--) bytes[random(bytes.length)] = random(256)
      const given = bytes.subarray(0, random(bytes.length + 1))
      const hello = read(given)
      if (hello._tag === "Hello") assert.isAtMost(hello.end, given.length)
    }
    for (let n = 0; n < 2000; n++) {
      const noise = Buffer.from(Array.from({ length: random(300) }, () => random(256)))
      assert.notStrictEqual(read(Buffer.concat([Buffer.from([22, 3, 1]), noise]))._tag, "Hello")
    }
    assert.strictEqual(
      read(Buffer.concat([Buffer.from([22, 3, 1, 0x3f, 0xf0, 1, 0, 0x3f, 0xec]), Buffer.alloc(20_000)]))._tag,
      "Malformed"
    )
  })
})
