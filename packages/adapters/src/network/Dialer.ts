/** Opens connections from the host to what sandboxes may reach, and to no other address. */
import { isPublicAddress } from "@castellan/domain/network/addresses.ts"
import type { LookupAddress } from "node:dns"
import { connect, type LookupFunction, type Socket } from "node:net"
import { networkInterfaces } from "node:os"
import * as tls from "node:tls"
import * as Resolver from "./Resolver.ts"

/** Hosts that the operator maps to URLs. An `https` URL takes the TLS connections of a host, an `http` URL the others. */
export type EgressHosts = ReadonlyMap<string, ReadonlyArray<URL>>

/** Resolves a name to all of its addresses. */
export type Lookup = (
  name: string,
  done: (error: Error | null, addresses: ReadonlyArray<LookupAddress>) => void
) => void

/** A name resolves to no public address. */
export class NoPublicAddress extends Error {
  readonly code = "ENOPUBLICADDRESS"
  constructor(name: string) {
    super(`${name} has no public address`)
  }
}

export interface Target {
  readonly host: string
  readonly port: number
}

export interface Dialer {
  /** Resolves if a name can be reached; rejects with `NoPublicAddress` or the resolver's error. */
  readonly check: (name: string) => Promise<void>
  /** Whether the operator maps the host to a URL. */
  readonly isMapped: (host: string) => boolean
  /** Whether TLS connections to the host go to an `http` URL. */
  readonly dropsTls: (host: string) => boolean
  /** Opens a connection. `isTls` says whether the client's bytes are TLS. The socket may emit `error` at any time. */
  readonly dial: (target: Target, isTls: boolean) => Socket
  /** Opens a TLS connection and verifies the host's certificate. */
  readonly dialTls: (target: Target) => Socket
}

/** Milliseconds for which the addresses of this host are cached. */
const ownFor = 10_000

/** Milliseconds for which a name is cached as reachable, and the maximum number of cached names. */
const checkedFor = 30_000
const checkedAtMost = 10_000

const defaultPort = (url: URL) => Number(url.port || (url.protocol === "https:" ? 443 : 80))

export interface DialerOptions {
  /** Hosts that may resolve to private addresses, because the operator mapped them. */
  readonly hosts?: EgressHosts
  /** PEM certificates to trust in addition to those of Node and of the system. */
  readonly trusted?: ReadonlyArray<string>
  readonly lookup?: Lookup
  /** The addresses of this host. They are never dialled: services behind the host's firewall may listen there. */
  readonly own?: () => Iterable<string>
}

const addressesOfHost = () =>
  Object.values(networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => address))

export const make = ({
  hosts = new Map(),
  lookup = Resolver.make(),
  own = addressesOfHost,
  trusted = []
}: DialerOptions): Dialer => {
  let ofHost = { addresses: new Set<string>(), until: 0 }

  const isOwn = (address: string) => {
    const now = Date.now()
    if (ofHost.until <= now) ofHost = { addresses: new Set(own()), until: now + ownFor }
    return ofHost.addresses.has(address)
  }

  let secureContext: tls.SecureContext | undefined
  const checked = new Map<string, number>()

  const publicAddresses = (name: string) =>
    new Promise<ReadonlyArray<LookupAddress>>((resolve, reject) => {
      lookup(name, (error, addresses) => {
        if (error !== null) return reject(error)
        const reachable = addresses.filter(({ address }) => isPublicAddress(address) && !isOwn(address))
        if (reachable.length === 0) return reject(new NoPublicAddress(name))
        resolve(reachable)
      })
    })

  /** Node dials the addresses that this returns, so the checked address is the dialled one. */
  const lookupPublic: LookupFunction = (name, options, done) => {
    publicAddresses(name).then(
      (addresses) => {
        const [first] = addresses as [LookupAddress]
        return options.all ? done(null, [...addresses]) : done(null, first.address, first.family)
      },
      (error: Error) => done(error, "")
    )
  }

  const check = async (name: string) => {
    if (hosts.has(name)) return
    const now = Date.now()
    if ((checked.get(name) ?? 0) > now) return
    await publicAddresses(name)
    if (checked.size >= checkedAtMost) checked.clear()
    checked.set(name, now + checkedFor)
  }

  const urlOf = (host: string, isTls: boolean) => {
    const mapped = hosts.get(host)
    return mapped?.find(({ protocol }) => (protocol === "https:") === isTls) ?? mapped?.[0]
  }

  const dropsTls = (host: string) => urlOf(host, true)?.protocol === "http:"

  const dial = ({ host, port }: Target, isTls: boolean) => {
    const url = urlOf(host, isTls)
    return url === undefined
      ? connect({ host, port, lookup: lookupPublic, allowHalfOpen: true, autoSelectFamily: true })
      : connect({ host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port: defaultPort(url), allowHalfOpen: true })
  }

  const dialTls = (target: Target) => {
    const socket = dial(target, true)
    if (dropsTls(target.host)) return socket
    secureContext ??= tls.createSecureContext({
      ca: [...new Set([...tls.getCACertificates("default"), ...tls.getCACertificates("system"), ...trusted])]
    })
    return tls.connect({ socket, servername: target.host, ALPNProtocols: ["http/1.1"], secureContext })
  }

  return { check, dial, dialTls, dropsTls, isMapped: (host) => hosts.has(host) }
}
