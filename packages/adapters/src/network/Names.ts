/** Assigns a loopback address to each host name that a sandbox resolves. */

/** The maximum number of names of a sandbox. They take at most 2 MB. */
export const namesAtMost = 4096

/** The addresses are in 127.66.0.0/15. */
const first = 127 * 2 ** 24 + 66 * 2 ** 16

const format = (number: number) => [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".")

export interface Names {
  /** The address of a name. It stays the same until the name is the least recently resolved one of a full table. */
  readonly addressOf: (name: string) => string
  /** The name of an address. */
  readonly nameOf: (address: string) => string | undefined
}

export const make = (): Names => {
  /** Least recently resolved first. */
  const addresses = new Map<string, string>()
  const names = new Map<string, string>()
  let next = 1

  const addressOf = (name: string) => {
    let address = addresses.get(name)
    if (address === undefined) {
      if (addresses.size >= namesAtMost) {
        const [[oldName, oldAddress]] = addresses as unknown as Iterable<[string, string]> as [[string, string]]
        addresses.delete(oldName)
        names.delete(oldAddress)
        address = oldAddress
      } else address = format(first + next++)
    }
    addresses.delete(name)
    addresses.set(name, address)
    names.set(address, name)
    return address
  }

  return { addressOf, nameOf: (address) => names.get(address) }
}
