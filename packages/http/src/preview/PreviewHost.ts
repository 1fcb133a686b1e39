/** Which host name an app's preview has, and which app a host name means. */
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Schema } from "effect"
import type { IncomingMessage } from "node:http"
import { isIP } from "node:net"

/** An app, by its sandbox and the port of its dev server. */
export interface PreviewTarget {
  readonly name: SandboxName
  readonly port: Port
}

/** Whom a request is for: an app, an app that there is not, or not the previews at all. */
export type Addressed =
  | { readonly _tag: "App"; readonly target: PreviewTarget }
  | { readonly _tag: "Nobody" }
  | { readonly _tag: "Elsewhere" }

const nobody: Addressed = { _tag: "Nobody" }
const elsewhere: Addressed = { _tag: "Elsewhere" }

/** Browsers and most resolvers take every name below it for this machine. */
const local = "localhost"

const isName = Schema.is(SandboxName)
const isPort = Schema.is(Port)

const withoutDots = (host: string) => host.replace(/\.+$/, "")

/** Whether apps can have names below the host of this URL; below an IP address there are none. */
export const isBase = (url: URL): boolean =>
  isIP(url.hostname.replace(/^\[|\]$/g, "")) === 0 && URL.canParse(`${url.protocol}//1024-a.${url.host}`)

/**
 * Where an app's preview is: below the base, or, where none is set, below `localhost` at the port by which the server was
 * reached.
 */
export const urlOf = (
  base: URL | undefined,
  requestHost: string | undefined,
  name: SandboxName,
  port: Port
): string => {
  if (base !== undefined) {
    const at = base.port === "" ? "" : `:${base.port}`
    return `${base.protocol}//${port}-${name}.${withoutDots(base.hostname)}${at}/`
  }
  const at = /:\d+$/.exec(requestHost ?? "")?.[0] ?? ""
  return `http://${port}-${name}.${local}${at === ":80" ? "" : at}/`
}

/** Whom one host name means. Its port does not matter: in front of the server stands what may change it. */
export const addressed = (base: URL | undefined, host: string): Addressed => {
  const domain = base === undefined ? local : withoutDots(base.hostname)
  const name = host.trim().replace(/:\d*$/, "").replace(/\.$/, "").toLowerCase()
  if (!withoutDots(name).endsWith(`.${domain}`)) return elsewhere
  const [, port, app] = /^([1-9]\d{3,4})-([a-z0-9-]+)$/.exec(name.slice(0, -domain.length - 1)) ?? []
  const target = { name: app, port: Number(port) }
  return name.endsWith(`.${domain}`) && isName(target.name) && isPort(target.port)
    ? { _tag: "App", target: { name: target.name, port: target.port } }
    : nobody
}

/** The host that a request names in its target, and those of its head. */
export const hostsOf = ({ rawHeaders, url = "" }: IncomingMessage): ReadonlyArray<string> => {
  const authority = /^https?:\/\/([^/?#]*)/i.exec(url)?.[1]
  const hosts = authority === undefined ? [] : [authority.replace(/^.*@/, "")]
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]!.toLowerCase() === "host") hosts.push(rawHeaders[at + 1]!)
  }
  return hosts
}

/** Whom a request means that may name several hosts: where they disagree and one is a preview's, nobody. */
export const addressedByAll = (base: URL | undefined, hosts: ReadonlyArray<string>): Addressed => {
  const [first = elsewhere, ...others] = hosts.map((host) => addressed(base, host))
  return others.every((other) => isSame(first, other)) ? first : nobody
}

const isSame = (one: Addressed, other: Addressed) =>
  one._tag === "App" && other._tag === "App"
    ? one.target.name === other.target.name && one.target.port === other.target.port
    : one._tag === other._tag
