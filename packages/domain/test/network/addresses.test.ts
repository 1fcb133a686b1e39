import { assert, describe, it } from "@effect/vitest"
import { isPublicAddress } from "@castellan/domain/network/addresses.ts"
import fc from "fast-check"
import { BlockList } from "node:net"

describe("Public addresses", () => {
  it("accepts globally reachable addresses", () => {
    for (const address of [
      "1.1.1.1",
      "8.8.8.8",
      "93.184.216.34",
      "172.15.0.1",
      "172.32.0.1",
      "100.63.0.1",
      "100.128.0.1"
    ])
      assert.isTrue(isPublicAddress(address), address)
    for (const address of ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b::200e"])
      assert.isTrue(isPublicAddress(address), address)
  })

  it("refuses loopback, private, link-local, carrier-grade, multicast, metadata and documentation addresses", () => {
    const refused =
      "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.66.0.1 169.254.169.254 172.16.0.1 172.31.255.255 " +
      "192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9 224.0.0.1 240.0.0.1 " +
      "255.255.255.255 :: ::1 fe80::1 fc00::1 fd12:3456::1 ff02::1 2001:db8::1 2001::1 2002:7f00:1:: 3fff::1 64:ff9b::a00:1"
    for (const address of refused.split(" ")) assert.isFalse(isPublicAddress(address), address)
  })

  it("refuses IPv6 addresses that wrap an IPv4 address, public or not", () => {
    for (const address of ["::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "::127.0.0.1"])
      assert.isFalse(isPublicAddress(address), address)
  })

  it("refuses text that is not an address in the notation of resolvers", () => {
    for (const text of [
      "",
      "localhost",
      "127.1",
      "0x7f.0.0.1",
      "2130706433",
      "0177.0.0.1",
      "1.2.3.4.5",
      "1.2.3.256",
      "01.2.3.4",
      "1:2:3",
      ":::",
      "2606:4700::1111::1",
      "2606:4700:4700::1111%eth0",
      "[2606:4700:4700::1111]",
      " 8.8.8.8"
    ])
      assert.isFalse(isPublicAddress(text), text)
  })

  it("agrees with an independent list of private blocks on every IPv4 address", () => {
    const list = new BlockList()
    for (const [network, bits] of [
      ["0.0.0.0", 8],
      ["10.0.0.0", 8],
      ["100.64.0.0", 10],
      ["127.0.0.0", 8],
      ["169.254.0.0", 16],
      ["172.16.0.0", 12],
      ["192.0.0.0", 24],
      ["192.0.2.0", 24],
      ["192.88.99.0", 24],
      ["192.168.0.0", 16],
      ["198.18.0.0", 15],
      ["198.51.100.0", 24],
      ["203.0.113.0", 24],
      ["224.0.0.0", 3]
    ] as const)
      list.addSubnet(network, bits, "ipv4")
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        assert.strictEqual(isPublicAddress(address), !list.check(address, "ipv4"))
      }),
      { numRuns: 5000 }
    )
  })
})
