/** Answers the DNS queries of one sandbox: each name that the policy allows resolves to its own loopback address. */
import { allowsName } from "@castellan/domain/network/decide.ts"
import type { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import dnsPacket, { type Packet } from "dns-packet"
import type { Socket as DatagramSocket } from "node:dgram"
import type { Dialer } from "./Dialer.ts"
import type { Names } from "./Names.ts"

/** The time to live of answers, in seconds. */
const timeToLive = 30

/** The maximum number of concurrent queries of a sandbox. Others are dropped, and the client retries them. */
const queriesAtOnce = 100

/** Response codes (RFC 1035, 4.1.1). */
const codes = { formatError: 1, serverFailure: 2, noSuchName: 3, refused: 5 }

const authoritative = dnsPacket.AUTHORITATIVE_ANSWER | dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE

/** The maximum size of a query in bytes. A name has at most 255, and programs add few options. */
const querySize = 1024

/**
 * Whether a packet's header says that it is a query with one question and at most two option records. Other packets are not
 * decoded, because a packet of 64 kB could have thousands of records.
 */
const isQuery = (packet: Buffer) =>
  packet.length >= 12 &&
  packet.length <= querySize &&
  (packet[2]! & 0xf8) === 0 &&
  packet.readUInt16BE(4) === 1 &&
  packet.readUInt32BE(6) === 0 &&
  packet.readUInt16BE(10) <= 2

/** Whether a name is one that HTTP and TLS can name as well, so that rules can apply to it. */
const isHostName = (name: string) =>
  name.length <= 253 && /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*$/.test(name)

export interface DnsOptions {
  readonly policy: () => NetworkPolicy
  readonly names: Names
  readonly dialer: Dialer
  /** Is called with each name that may not be reached. */
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
    // IPv6 has only one loopback address, so it can't tell names apart.
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

  /** Answers queries on a socket in the sandbox's network. */
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
