/** The loopback addresses that stand for names in the network of one sandbox. */

/** Most names that a sandbox can use at a time; they take at most two megabytes. */
export const namesAtMost = 4096

/** Addresses are taken from 127.66.0.0/16 and 127.67.0.0/16. */
const first = 127 * 2 ** 24 + 66 * 2 ** 16

const format = (number: number) => [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".")

export interface Names {
  /** The address that stands for a name, always the same one while the name is in use. */
  readonly addressOf: (name: string) => string
  /** The name that an address stands for. */
  readonly nameOf: (address: string) => string | undefined
}

export const make = (): Names => {
  /** In the order in which they were last asked for. */
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
