/** Answers the name queries of one sandbox: each name that it may reach gets a loopback address of its own. */
import { allowsName } from "@castellan/domain/network/decide.ts"
import type { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import dnsPacket, { type Packet } from "dns-packet"
import type { Socket as DatagramSocket } from "node:dgram"
import type { Dialer } from "./Dialer.ts"
import type { Names } from "./Names.ts"

/** Seconds for which a program may remember an address. */
const timeToLive = 30

/** Most queries of a sandbox that are answered at a time; more get no answer, and are asked again. */
const queriesAtOnce = 100

/** Answer codes (RFC 1035, 4.1.1). */
const codes = { formatError: 1, serverFailure: 2, noSuchName: 3, refused: 5 }

const authoritative = dnsPacket.AUTHORITATIVE_ANSWER | dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE

/** Most bytes of a query: a name has 255, and programs add few options. */
const querySize = 1024

/**
 * Whether a packet is a query with one question, no records but one or two of options, by its header. The others are not
 * decoded: a packet of 64 kB could have thousands of records.
 */
const isQuery = (packet: Buffer) =>
  packet.length >= 12 &&
  packet.length <= querySize &&
  (packet[2]! & 0xf8) === 0 &&
  packet.readUInt16BE(4) === 1 &&
  packet.readUInt32BE(6) === 0 &&
  packet.readUInt16BE(10) <= 2

/** A name that can have rules: what HTTP and TLS can name as well. */
const isHostName = (name: string) =>
  name.length <= 253 && /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*$/.test(name)

export interface DnsOptions {
  readonly policy: () => NetworkPolicy
  readonly names: Names
  readonly dialer: Dialer
  /** Takes a name that may not be reached. */
  readonly refused: (name: string) => void
}

interface Answer {
  readonly code: number
  readonly address?: string
}

export const make = ({ dialer, names, policy, refused }: DnsOptions) => {
  let pending = 0

  const answerTo = async (name: string, type: string): Promise<Answer> => {
    if (!isHostName(name)) return { code: codes.noSuchName }
    if (!allowsName(policy(), name)) {
      refused(name)
      return { code: codes.noSuchName }
    }
    if (type !== "A" && type !== "AAAA") return { code: 0 }
    try {
      await dialer.check(name)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === "ENOPUBLICADDRESS") refused(name)
      return { code: code === "ENOTFOUND" || code === "ENOPUBLICADDRESS" ? codes.noSuchName : codes.serverFailure }
    }
    // Addresses of IPv6 could not stand for names: ::1 is the only loopback address there.
    return type === "A" ? { code: 0, address: names.addressOf(name) } : { code: 0 }
  }

  const respond = async (query: Packet): Promise<Buffer | undefined> => {
    if (query.type !== "query" || query.questions?.length !== 1) return undefined
    const [question] = query.questions
    const name = question!.name.toLowerCase().replace(/\.$/, "")
    const { address, code } = await answerTo(name, question!.type)
    return dnsPacket.encode({
      type: "response",
      id: query.id ?? 0,
      flags: authoritative | code,
      questions: query.questions,
      answers: address === undefined ? [] : [{ type: "A", name: question!.name, ttl: timeToLive, data: address }]
    })
  }

  /** Serves queries on a socket in the sandbox's network. */
  const serve = (socket: DatagramSocket) => {
    socket.on("error", () => undefined)
    socket.on("message", (message, from) => {
      if (pending >= queriesAtOnce || !isQuery(message)) return
      let query: Packet
      try {
        query = dnsPacket.decode(message)
      } catch {
        return
      }
      pending++
      respond(query)
        .then((response) => response && socket.send(response, from.port, from.address, () => undefined))
        .catch(() => undefined)
        .finally(() => pending--)
    })
  }

  return { serve }
}
