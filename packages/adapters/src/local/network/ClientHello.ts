/** Reads the server name from the first message of a TLS client. Strict, so that no server can read another name in it. */

/** Most bytes of a ClientHello with its record headers. Clients send 200 to 2500, with large tickets a few thousand more. */
const sizeAtMost = 16 * 1024

/** Most records that a ClientHello may be split into: to read it again at each byte that comes has to be cheap. */
const recordsAtMost = 8

const record = { changeCipherSpec: 20, handshake: 22 }
const handshake = { clientHello: 1, serverHello: 2 }

/** Extensions that can hide the name that is meant (Encrypted ClientHello, and its draft for the name alone). */
const hidesName = new Set([0xfe0d, 0xffce])

/** The record that a client sends for old middleboxes before it answers a request to say hello again. */
const changeCipherSpec = Buffer.from([record.changeCipherSpec, 3, 3, 0, 1, 1])

/** The random of a ServerHello that asks the client to say hello again, and where it is (RFC 8446, 4.1.3). */
const retryRandom = Buffer.from("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c", "hex")
const randomAt = 11

/** More bytes are needed to tell; or it is no well-formed hello; or it is one, and ends there. */
export type Hello =
  | { readonly _tag: "Partial" }
  | { readonly _tag: "Malformed" }
  | { readonly _tag: "Hello"; readonly name: string | undefined; readonly isHidden: boolean; readonly end: number }

const partial: Hello = { _tag: "Partial" }
const malformed: Hello = { _tag: "Malformed" }

class Malformed extends Error {}

/** Takes one part after the other out of some bytes. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isDone(): boolean {
    return this.#at === this.#bytes.length
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new Malformed()
    return this.#bytes.subarray(this.#at, (this.#at += length))
  }

  number(size: number): number {
    return this.take(size).readUIntBE(0, size)
  }

  /** A part that says its length in so many bytes, which has to be within the bounds. */
  vector(size: number, min: number, max: number): Reader {
    const length = this.number(size)
    if (length < min || length > max) throw new Malformed()
    return new Reader(this.take(length))
  }

  rest(): Buffer {
    return this.take(this.#bytes.length - this.#at)
  }

  end(): void {
    if (!this.isDone) throw new Malformed()
  }
}

const serverNameIn = (extension: Reader): string => {
  const names = extension.vector(2, 4, 0xffff)
  extension.end()
  if (names.number(1) !== 0) throw new Malformed()
  const name = names.vector(2, 1, 255).rest().toString("latin1")
  names.end()
  if (!/^[\x21-\x7e]+$/.test(name)) throw new Malformed()
  return name.toLowerCase()
}

/** The name that the message of a client names, in lower case. */
const readMessage = (message: Buffer) => {
  const hello = new Reader(message)
  hello.take(2 + 32)
  hello.vector(1, 0, 32)
  hello.vector(2, 2, 0xfffe)
  hello.vector(1, 1, 0xff)
  let name: string | undefined
  let isHidden = false
  const seen = new Set<number>()
  const extensions = hello.isDone ? new Reader(Buffer.alloc(0)) : hello.vector(2, 0, 0xffff)
  hello.end()
  while (!extensions.isDone) {
    const type = extensions.number(2)
    const extension = extensions.vector(2, 0, 0xffff)
    // Of two, one server may read the first and another the last.
    if (seen.has(type)) throw new Malformed()
    seen.add(type)
    if (type === 0) name = serverNameIn(extension)
    if (hidesName.has(type)) isHidden = true
  }
  return { name, isHidden }
}

/** The ClientHello with which the bytes begin, which may come in several records. */
export const read = (bytes: Buffer): Hello => {
  const payload: Array<Buffer> = []
  let at = 0
  while (payload.length < recordsAtMost) {
    const head = bytes.subarray(at, at + 5)
    if (head.length > 0 && head[0] !== record.handshake) return malformed
    if (head.length > 1 && head[1] !== 3) return malformed
    if (head.length < 5) return bytes.length >= sizeAtMost ? malformed : partial
    const length = head.readUInt16BE(3)
    if (length === 0 || at + 5 + length > sizeAtMost) return malformed
    payload.push(bytes.subarray(at + 5, at + 5 + length))
    at += 5 + length
    const message = Buffer.concat(payload)
    if (message.length > 0 && message[0] !== handshake.clientHello) return malformed
    const wanted = message.length < 4 ? undefined : 4 + message.readUIntBE(1, 3)
    if (wanted !== undefined && wanted > sizeAtMost) return malformed
    if (bytes.length < at) return partial
    if (wanted === undefined || message.length < wanted) continue
    // What follows in the same record would be another message of a client that has to wait for an answer.
    if (message.length > wanted) return malformed
    try {
      return { _tag: "Hello", ...readMessage(message.subarray(4)), end: at }
    } catch {
      return malformed
    }
  }
  return malformed
}

/** The same for the hello that a client says again, when it was asked to. */
export const readAgain = (bytes: Buffer): Hello => {
  const skipped = changeCipherSpec.length
  const begin = bytes.subarray(0, skipped)
  if (begin.length < skipped && changeCipherSpec.subarray(0, begin.length).equals(begin)) return partial
  if (!begin.equals(changeCipherSpec)) return read(bytes)
  const hello = read(bytes.subarray(skipped))
  return hello._tag === "Hello" ? { ...hello, end: hello.end + skipped } : hello
}

/** Whether a server's first bytes ask the client to say hello again; undefined where more bytes are needed to tell. */
export const asksAgain = (bytes: Buffer): boolean | undefined => {
  if (bytes.length > 0 && bytes[0] !== record.handshake) return false
  if (bytes.length > 5 && bytes[5] !== handshake.serverHello) return false
  if (bytes.length < randomAt + retryRandom.length) return undefined
  return bytes.subarray(randomAt, randomAt + retryRandom.length).equals(retryRandom)
}
