/** Classifies IP addresses as public or not. */

const parseIpv4 = (text: string): ReadonlyArray<number> | undefined => {
  const parts = text.split(".")
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9][0-9]{0,2})$/.test(part))) return undefined
  const bytes = parts.map(Number)
  return bytes.every((byte) => byte <= 255) ? bytes : undefined
}

const parseGroups = (text: string): ReadonlyArray<number> | undefined => {
  if (text === "") return []
  const groups = text.split(":")
  return groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))
    ? groups.map((group) => Number.parseInt(group, 16))
    : undefined
}

const parseIpv6 = (text: string): ReadonlyArray<number> | undefined => {
  // A dotted suffix is the last two groups.
  const dotted = /^(.*:)([0-9.]+)$/.exec(text)
  const tail = dotted === null || !dotted[2]!.includes(".") ? undefined : parseIpv4(dotted[2]!)
  if (dotted?.[2]!.includes(".") && tail === undefined) return undefined
  const plain =
    tail === undefined
      ? text
      : `${dotted![1]}${((tail[0]! << 8) | tail[1]!).toString(16)}:${((tail[2]! << 8) | tail[3]!).toString(16)}`
  const halves = plain.split("::")
  if (halves.length > 2) return undefined
  const [before, after] = halves.map(parseGroups)
  if (before === undefined || (halves.length === 2 && after === undefined)) return undefined
  if (halves.length === 1) return before.length === 8 ? before : undefined
  const zeros = 8 - before.length - after!.length
  return zeros < 1 ? undefined : [...before, ...Array<number>(zeros).fill(0), ...after!]
}

/** IPv4 blocks that are not globally reachable (IANA IPv4 Special-Purpose Address Registry). */
const specialIpv4: ReadonlyArray<readonly [first: number, second: number | undefined, bits: number]> = [
  [0, undefined, 8],
  [10, undefined, 8],
  [100, 64, 10],
  [127, undefined, 8],
  [169, 254, 16],
  [172, 16, 12],
  [192, 168, 16],
  [198, 18, 15]
]

const isPublicIpv4 = ([a, b, c]: ReadonlyArray<number>): boolean => {
  if (a! >= 224) return false
  // Protocol assignments, documentation, and the deprecated 6to4 relay.
  if (a === 192 && ((b === 0 && (c === 0 || c === 2)) || (b === 88 && c === 99))) return false
  if ((a === 198 && b === 51 && c === 100) || (a === 203 && b === 0 && c === 113)) return false
  return !specialIpv4.some(([first, second, bits]) => {
    if (a !== first) return false
    if (second === undefined || bits <= 8) return true
    const mask = (0xff << (16 - bits)) & 0xff
    return (b! & mask) === (second & mask)
  })
}

const isPublicIpv6 = (groups: ReadonlyArray<number>): boolean => {
  const [first, second] = groups as [number, number]
  // Global unicast is 2000::/3, without Teredo and other protocol assignments, documentation, and 6to4.
  if ((first & 0xe000) !== 0x2000) return false
  if (first === 0x2001 && (second < 0x0200 || second === 0x0db8)) return false
  return first !== 0x2002 && first !== 0x3fff
}

/**
 * Whether the text is a public IP address in the notation of a resolver. IPv6 addresses that embed an IPv4 address
 * (`::ffff:0:0/96`, NAT64, 6to4) are never public, because they can embed a private one.
 */
export const isPublicAddress = (address: string): boolean => {
  const ipv4 = parseIpv4(address)
  if (ipv4 !== undefined) return isPublicIpv4(ipv4)
  const ipv6 = parseIpv6(address)
  return ipv6 !== undefined && isPublicIpv6(ipv6)
}
