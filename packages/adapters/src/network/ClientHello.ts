/** Parses the server name in a TLS ClientHello, strictly: no server can read another name in it. */

/** Bytes of a ClientHello with its record headers. Clients send 200 to 2500, with large tickets a few thousand more. */
const maxSize = 16 * 1024

/** Records of a ClientHello. Few, because it is parsed again whenever bytes arrive. */
const maxRecords = 8

const recordType = { changeCipherSpec: 20, handshake: 22 }
const handshakeType = { clientHello: 1, serverHello: 2 }

/** Extensions that encrypt the intended name: Encrypted ClientHello, and its early draft for the name alone. */
const hidesName = new Set([0xfe0d, 0xffce])

/** The record that a client sends, for compatibility with middleboxes, before its answer to a HelloRetryRequest. */
const changeCipherSpec = Buffer.from([recordType.changeCipherSpec, 3, 3, 0, 1, 1])

/** The random of a ServerHello that is a HelloRetryRequest, and its offset (RFC 8446, 4.1.3). */
const retryRandom = Buffer.from("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c", "hex")
const randomOffset = 11

/** The result of a parser: more bytes are needed, the bytes are no ClientHello, or they are one up to the offset `end`. */
export type Hello =
  | { readonly _tag: "Partial" }
  | { readonly _tag: "Malformed" }
  | { readonly _tag: "Hello"; readonly name: string | undefined; readonly isHidden: boolean; readonly end: number }

const partial: Hello = { _tag: "Partial" }
const malformed: Hello = { _tag: "Malformed" }

class Malformed extends Error {}

/** Reads consecutive fields of some bytes. */
class Reader {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isDone(): boolean {
    return this.#offset === this.#bytes.length
  }

  take(length: number): Buffer {
    if (this.#offset + length > this.#bytes.length) throw new Malformed()
    return this.#bytes.subarray(this.#offset, (this.#offset += length))
  }

  number(size: number): number {
    return this.take(size).readUIntBE(0, size)
  }

  /** A field that begins with its length, a number of `size` bytes between `min` and `max`. */
  vector(size: number, min: number, max: number): Reader {
    const length = this.number(size)
    if (length < min || length > max) throw new Malformed()
    return new Reader(this.take(length))
  }

  rest(): Buffer {
    return this.take(this.#bytes.length - this.#offset)
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

/** The server name in the message, in lower case, and whether another name may be encrypted. */
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
    // Of two equal extensions, one server may read the first and another the last.
    if (seen.has(type)) throw new Malformed()
    seen.add(type)
    if (type === 0) name = serverNameIn(extension)
    if (hidesName.has(type)) isHidden = true
  }
  return { name, isHidden }
}

/** Parses the ClientHello at the start of the bytes, which may span several records. */
export const read = (bytes: Buffer): Hello => {
  const payload: Array<Buffer> = []
  let offset = 0
  while (payload.length < maxRecords) {
    const head = bytes.subarray(offset, offset + 5)
    if (head.length > 0 && head[0] !== recordType.handshake) return malformed
    if (head.length > 1 && head[1] !== 3) return malformed
    if (head.length < 5) return bytes.length >= maxSize ? malformed : partial
    const length = head.readUInt16BE(3)
    if (length === 0 || offset + 5 + length > maxSize) return malformed
    payload.push(bytes.subarray(offset + 5, offset + 5 + length))
    offset += 5 + length
    const message = Buffer.concat(payload)
    if (message.length > 0 && message[0] !== handshakeType.clientHello) return malformed
    const expected = message.length < 4 ? undefined : 4 + message.readUIntBE(1, 3)
    if (expected !== undefined && expected > maxSize) return malformed
    if (bytes.length < offset) return partial
    if (expected === undefined || message.length < expected) continue
    // Another message in the same record is wrong: the client has to wait for an answer first.
    if (message.length > expected) return malformed
    try {
      return { _tag: "Hello", ...readMessage(message.subarray(4)), end: offset }
    } catch {
      return malformed
    }
  }
  return malformed
}

/** Parses the second ClientHello, after a HelloRetryRequest. */
export const readRetry = (bytes: Buffer): Hello => {
  const skipped = changeCipherSpec.length
  const start = bytes.subarray(0, skipped)
  if (start.length < skipped && changeCipherSpec.subarray(0, start.length).equals(start)) return partial
  if (!start.equals(changeCipherSpec)) return read(bytes)
  const hello = read(bytes.subarray(skipped))
  return hello._tag === "Hello" ? { ...hello, end: hello.end + skipped } : hello
}

/** Whether a server's first bytes are a HelloRetryRequest; undefined if more bytes are needed to tell. */
export const isRetryRequest = (bytes: Buffer): boolean | undefined => {
  if (bytes.length > 0 && bytes[0] !== recordType.handshake) return false
  if (bytes.length > 5 && bytes[5] !== handshakeType.serverHello) return false
  if (bytes.length < randomOffset + retryRandom.length) return undefined
  return bytes.subarray(randomOffset, randomOffset + retryRandom.length).equals(retryRandom)
}
