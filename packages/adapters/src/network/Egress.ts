/** Forwards the connections of one sandbox that its network policy allows. */
import {
  type Attempt,
  type Carriage,
  decideConnection,
  type DenialReason,
  webPorts
} from "@castellan/domain/network/decide.ts"
import type { NetworkPolicy, SecretName } from "@castellan/domain/network/NetworkPolicy.ts"
import type { Socket } from "node:net"
import { TLSSocket } from "node:tls"
import type { Certificates } from "./Certificates.ts"
import * as ClientHello from "./ClientHello.ts"
import type { Dialer } from "./Dialer.ts"
import * as Requests from "./Requests.ts"

/** The maximum number of open connections of a sandbox, and the number that other sandboxes can't take from it. */
export const connectionsAtMost = 512
export const connectionsAtLeast = 16

/** Milliseconds until the client's first bytes must be complete: a TLS ClientHello, or the head of a request. */
const firstBytesWithin = 10_000

/** Milliseconds without a byte from the client until the gateway dials, for protocols in which the server speaks first. */
const silentFor = 300

/** Milliseconds until a connection without traffic is closed. */
const idleFor = 15 * 60_000

/** The timeout of connecting to a host, in milliseconds. */
const connectedWithin = 30_000

/** The maximum number of the client's first bytes that are inspected to detect the protocol. */
const lookedAt = 16 * 1024

/** Fatal TLS alerts, which tell the client why its ClientHello is refused (RFC 8446, 6.2). */
const alert = (description: number) => Buffer.from([21, 3, 1, 0, 2, 2, description])
const alerts = {
  handshakeFailure: alert(40),
  accessDenied: alert(49),
  decodeError: alert(50),
  unrecognizedName: alert(112)
}

const tlsHandshake = 22

/** Why a connection or request was refused. */
export type RefusalReason = DenialReason | "name_mismatch" | "private_address" | "too_many_connections"

export interface Refusal extends Attempt {
  readonly reason: RefusalReason
}

export interface EgressOptions {
  readonly policy: () => NetworkPolicy
  readonly dialer: Dialer
  /** Certificates of hosts whose requests the gateway reads; undefined if it can't terminate TLS. */
  readonly certificates: Certificates | undefined
  /** The value of a secret in the policy. */
  readonly secretOf: (name: SecretName) => string | undefined
  readonly refused: (refusal: Refusal) => void
  /** Is called with the bytes sent and received when a connection closes. */
  readonly carried: (host: string, sent: number, received: number) => void
  /** The timeout of a request's head in milliseconds; ten seconds by default. */
  readonly headWithin?: number
  /** Whether a sandbox with that many connections may open another; up to `connectionsAtMost` by default. */
  readonly mayOpen?: (openNow: number) => boolean
}

/** Pipes two sockets into each other with backpressure until both have ended. If one breaks, the other is destroyed. */
const join = (one: Socket, other: Socket) => {
  for (const [from, to] of [
    [one, other],
    [other, one]
  ] as const) {
    from.pipe(to)
    from.on("error", () => to.destroy())
    from.on("close", () => from.readableEnded || to.destroy())
  }
}

/** The first line that is not empty, and whether it is complete. HTTP servers skip empty lines before a request. */
const firstLine = /^\s*([^\r\n]*)([\r\n])?/

/** Whether a line has a control character other than a tab. No HTTP server accepts one in a request line. */
const hasControl = (line: string) => [...line].some((one) => (one < " " && one !== "\t") || one === "\x7f")

/** Matches lines that some server may accept as a request line, in any case, with any blanks, or without a version. */
const requestLine = /http\/|^[\x21-\x7e]+[ \t]+(?:\/|\*|https?:)/i

/** The protocol of a client's first bytes: TLS, HTTP/1 or another; undefined if more bytes are needed. */
const protocolOf = (bytes: Buffer): "tls" | "http" | "other" | undefined => {
  if (bytes.length === 0) return undefined
  if (bytes[0] === tlsHandshake) return "tls"
  // An SSL 2 ClientHello, which has no server name, also starts TLS.
  if (bytes[0]! >= 0x80 && (bytes.length < 3 || bytes[2] === 1)) return bytes.length < 3 ? undefined : "tls"
  const [, line = "", end] = firstLine.exec(bytes.subarray(0, lookedAt).toString("latin1"))!
  if (hasControl(line)) return "other"
  if (end !== undefined) return requestLine.test(line) ? "http" : "other"
  return bytes.length < lookedAt ? undefined : "other"
}

/**
 * Whether bytes that are neither TLS nor HTTP may pass to a port. Ports 80 and 443 are for HTTP and TLS, and 443 for SSH,
 * which repository hosts also serve there.
 */
const mayPass = (port: number, bytes: Buffer) =>
  !webPorts.includes(port) || (port === 443 && bytes.subarray(0, 4).toString("latin1") === "SSH-")

export interface Egress {
  /** Forwards a connection from inside to a host and port. */
  readonly serve: (socket: Socket, attempt: Attempt) => void
  /** The number of open connections. */
  readonly openNow: () => number
  /** Closes the connections that the current policy does not allow. */
  readonly enforce: () => void
  readonly close: () => void
}

export const make = (options: EgressOptions): Egress => {
  const { certificates, dialer, mayOpen = (openNow) => openNow < connectionsAtMost, policy, refused } = options
  /** The open connections and how each is forwarded. */
  const open = new Map<Socket, Attempt & { readonly carriage?: Carriage }>()
  const requests = Requests.make(options)

  const count = (client: Socket, server: Socket, { host }: Attempt) => {
    server.on("close", () => options.carried(host, server.bytesWritten, server.bytesRead))
    client.setTimeout(idleFor, () => client.destroy())
    server.setTimeout(idleFor, () => server.destroy())
  }

  /** Connects to the host. The client's connection is reset if that fails. */
  const dial = (client: Socket, attempt: Attempt, isTls: boolean, connected: (server: Socket) => void) => {
    const server = dialer.dial(attempt, isTls).setNoDelay()
    const late = setTimeout(() => server.destroy(new Error("the host did not answer in time")), connectedWithin)
    client.on("close", () => server.destroy())
    server.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOPUBLICADDRESS") refused({ ...attempt, reason: "private_address" })
      client.resetAndDestroy()
    })
    server.on("close", () => {
      clearTimeout(late)
      if (!server.readableEnded) client.destroy()
    })
    server.once("connect", () => {
      clearTimeout(late)
      count(client, server, attempt)
      connected(server)
    })
  }

  /**
   * Collects bytes until `read` returns a value, then pauses the socket and calls `done`. If the socket ends before that, it
   * and the client are closed.
   */
  const gather = <A>(
    from: Socket,
    early: Buffer,
    read: (bytes: Buffer) => A | undefined,
    done: (found: A, bytes: Buffer) => void,
    client = from
  ) => {
    let bytes: Buffer = Buffer.alloc(0)
    const take = (more: Buffer) => {
      bytes = bytes.length === 0 ? more : Buffer.concat([bytes, more])
      const found = read(bytes)
      if (found === undefined) return
      from.off("data", take).off("end", ended).pause()
      done(found, bytes)
    }
    const ended = () => {
      from.destroy()
      client.destroy()
    }
    from.on("data", take).once("end", ended).resume()
    if (early.length > 0) take(early)
  }

  const refuse = (client: Socket, attempt: Attempt, reason: RefusalReason, answer?: Buffer) => {
    refused({ ...attempt, reason })
    if (answer === undefined) client.resetAndDestroy()
    else client.end(answer)
  }

  /** Passes TLS through after checking that each ClientHello names the host. */
  const passTls = (client: Socket, attempt: Attempt, early: Buffer, late: NodeJS.Timeout) => {
    const checked = (read: typeof ClientHello.read, from: Buffer, passed: (hello: Buffer, more: Buffer) => void) => {
      const complete = (bytes: Buffer) => {
        const hello = read(bytes)
        return hello._tag === "Partial" ? undefined : hello
      }
      gather(client, from, complete, (hello, bytes) => {
        if (hello._tag === "Malformed") return void client.end(alerts.decodeError)
        if (hello.isHidden || hello.name !== attempt.host)
          return refuse(client, attempt, "name_mismatch", alerts.unrecognizedName)
        passed(bytes.subarray(0, hello.end), bytes.subarray(hello.end))
      })
    }
    checked(ClientHello.read, early, (hello, more) =>
      dial(client, attempt, true, (server) => {
        server.write(hello)
        // The server may request a second ClientHello, which could name another host.
        const answered = (asksAgain: boolean, answer: Buffer) => {
          client.write(answer)
          const joined = (bytes: Buffer) => {
            clearTimeout(late)
            server.write(bytes)
            join(client, server)
          }
          if (!asksAgain) return joined(more)
          checked(ClientHello.readRetry, more, (again, rest) => joined(Buffer.concat([again, rest])))
        }
        gather(server, Buffer.alloc(0), ClientHello.isRetryRequest, answered, client)
      })
    )
  }

  /** Terminates TLS with a certificate for the host, and forwards the requests inside. */
  const endTls = (client: Socket, attempt: Attempt, early: Buffer, late: NodeJS.Timeout) => {
    if (certificates === undefined) return void client.end(alerts.handshakeFailure)
    const complete = (bytes: Buffer) => {
      const hello = ClientHello.read(bytes)
      return hello._tag === "Partial" ? undefined : hello
    }
    gather(client, early, complete, (hello, bytes) => {
      if (hello._tag === "Malformed") return void client.end(alerts.decodeError)
      if (hello.name !== attempt.host) return refuse(client, attempt, "name_mismatch", alerts.unrecognizedName)
      certificates.contextFor(attempt.host).then(
        (secureContext) => {
          if (client.destroyed) return
          client.unshift(bytes)
          const secure = new TLSSocket(client, { isServer: true, secureContext, ALPNProtocols: ["http/1.1"] })
          secure.on("error", () => client.destroy())
          secure.once("secure", () => {
            clearTimeout(late)
            requests.serve(secure, attempt, Buffer.alloc(0))
          })
        },
        () => client.destroy()
      )
    })
  }

  /** Passes bytes that are neither TLS nor HTTP. They can't name another host. */
  const passOther = (client: Socket, attempt: Attempt, early: Buffer, late: NodeJS.Timeout) => {
    if (!mayPass(attempt.port, early)) return refuse(client, attempt, "name_mismatch")
    dial(client, attempt, false, (server) => {
      clearTimeout(late)
      server.write(early)
      join(client, server)
    })
  }

  /** Connects before the client has sent anything. The client's first bytes are still checked before they are forwarded. */
  const serverFirst = (client: Socket, attempt: Attempt, late: NodeJS.Timeout) =>
    dial(client, attempt, false, (server) => {
      server.on("data", (bytes: Buffer) => {
        if (!client.write(bytes)) server.pause()
      })
      client.on("drain", () => server.resume())
      server.on("end", () => client.end())
      gather(client, Buffer.alloc(0), protocolOf, (protocol, bytes) => {
        clearTimeout(late)
        if (protocol !== "other" || !mayPass(attempt.port, bytes)) return refuse(client, attempt, "name_mismatch")
        server.write(bytes)
        client.pipe(server)
      })
    })

  /** Forwards a connection of any protocol, and checks that it names no other host. */
  const passNamed = (client: Socket, attempt: Attempt, late: NodeJS.Timeout, seesRequests: boolean) => {
    const speaksFirst = setTimeout(() => {
      if (seesRequests) return
      client.removeAllListeners("data").removeAllListeners("end").pause()
      serverFirst(client, attempt, late)
    }, silentFor)
    client.on("close", () => clearTimeout(speaksFirst))
    client.once("data", () => clearTimeout(speaksFirst))
    gather(client, Buffer.alloc(0), protocolOf, (protocol, bytes) => {
      clearTimeout(speaksFirst)
      if (protocol === "http") {
        clearTimeout(late)
        return requests.serve(client, attempt, bytes)
      }
      if (seesRequests) {
        if (protocol === "tls") return endTls(client, attempt, bytes, late)
        return refuse(client, attempt, "name_mismatch")
      }
      return protocol === "tls" ? passTls(client, attempt, bytes, late) : passOther(client, attempt, bytes, late)
    })
  }

  const passOpaque = (client: Socket, attempt: Attempt, late: NodeJS.Timeout) =>
    dial(client, attempt, attempt.port === 443, (server) => {
      clearTimeout(late)
      join(client, server)
    })

  const deny = (client: Socket, attempt: Attempt, reason: DenialReason) => {
    if (attempt.port === 80) return refuse(client, attempt, reason, Requests.forbidden(attempt, reason))
    refuse(client, attempt, reason, attempt.port === 443 ? alerts.accessDenied : undefined)
  }

  const serve = (client: Socket, attempt: Attempt) => {
    client.on("error", () => client.destroy())
    client.allowHalfOpen = true
    client.setNoDelay()
    if (!mayOpen(open.size)) return refuse(client, attempt, "too_many_connections")
    open.set(client, attempt)
    const late = setTimeout(() => client.destroy(), connectedWithin + firstBytesWithin)
    client.on("close", () => {
      open.delete(client)
      clearTimeout(late)
    })
    const decision = decideConnection(policy(), attempt)
    if (decision._tag === "Deny") return deny(client, attempt, decision.reason)
    open.set(client, { ...attempt, carriage: decision.carriage })
    if (attempt.port === 443 && dialer.dropsTls(attempt.host)) return passNamed(client, attempt, late, true)
    // A mapped URL is in the operator's network: the sandbox may reach only the mapped host there, and no other virtual host.
    if (decision.carriage === "opaque" && !dialer.isMapped(attempt.host)) return passOpaque(client, attempt, late)
    passNamed(client, attempt, late, decision.carriage === "requests")
  }

  const enforce = () => {
    for (const [client, { carriage, ...attempt }] of open) {
      const decision = decideConnection(policy(), attempt)
      // If only the name was checked, earlier requests may not satisfy a new rule.
      if (decision._tag === "Deny" || decision.carriage !== carriage) client.resetAndDestroy()
    }
    requests.enforce()
  }

  const close = () => {
    for (const client of open.keys()) client.destroy()
    requests.close()
  }

  return { serve, openNow: () => open.size, enforce, close }
}
