/** Creates and parses the host names of app previews. */
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Schema } from "effect"
import type { IncomingMessage } from "node:http"
import { isIP } from "node:net"

/** The sandbox of an app and the port of its dev server. */
export interface PreviewTarget {
  readonly name: SandboxName
  readonly port: Port
}

/** The result of parsing a host: an app, a name below the preview host that no app can have, or another host. */
export type PreviewAddress =
  | { readonly _tag: "App"; readonly target: PreviewTarget }
  | { readonly _tag: "NoApp" }
  | { readonly _tag: "NotPreview" }

const noApp: PreviewAddress = { _tag: "NoApp" }
const notPreview: PreviewAddress = { _tag: "NotPreview" }

/** Browsers and most resolvers resolve every name below it to this machine. */
const localhost = "localhost"

const isName = Schema.is(SandboxName)
const isPort = Schema.is(Port)

const withoutDots = (host: string) => host.replace(/\.+$/, "")

/** Whether apps can have host names below the host of this URL. An IP address has none. */
export const isBase = (url: URL): boolean =>
  isIP(url.hostname.replace(/^\[|\]$/g, "")) === 0 && URL.canParse(`${url.protocol}//1024-a.${url.host}`)

/** The URL of an app's preview. Without a base it is below `localhost`, at the port in the request's host. */
export const previewUrl = (
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
  return `http://${port}-${name}.${localhost}${at === ":80" ? "" : at}/`
}

/** Parses one host. Its port is ignored: a proxy in front of the server may change it. */
export const parseHost = (base: URL | undefined, host: string): PreviewAddress => {
  const domain = base === undefined ? localhost : withoutDots(base.hostname)
  const name = host.trim().replace(/:\d*$/, "").replace(/\.$/, "").toLowerCase()
  if (!withoutDots(name).endsWith(`.${domain}`)) return notPreview
  const [, port, app] = /^([1-9]\d{3,4})-([a-z0-9-]+)$/.exec(name.slice(0, -domain.length - 1)) ?? []
  const target = { name: app, port: Number(port) }
  return name.endsWith(`.${domain}`) && isName(target.name) && isPort(target.port)
    ? { _tag: "App", target: { name: target.name, port: target.port } }
    : noApp
}

/** All hosts of a request: that of an absolute request target, and those of its Host headers. */
export const hostsOf = ({ rawHeaders, url = "" }: IncomingMessage): ReadonlyArray<string> => {
  const authority = /^https?:\/\/([^/?#]*)/i.exec(url)?.[1]
  const hosts = authority === undefined ? [] : [authority.replace(/^.*@/, "")]
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]!.toLowerCase() === "host") hosts.push(rawHeaders[at + 1]!)
  }
  return hosts
}

/** Parses all hosts of a request. Hosts that disagree name no app, so a request can't pass one check and use another. */
export const parseHosts = (base: URL | undefined, hosts: ReadonlyArray<string>): PreviewAddress => {
  const [first = notPreview, ...others] = hosts.map((host) => parseHost(base, host))
  return others.every((other) => isSame(first, other)) ? first : noApp
}

const isSame = (one: PreviewAddress, other: PreviewAddress) =>
  one._tag === "App" && other._tag === "App"
    ? one.target.name === other.target.name && one.target.port === other.target.port
    : one._tag === other._tag
