import { listed } from "@castellan/adapters/sandbox/Files.ts"
import { assert, it } from "@effect/vitest"

it("lists a file whose time of change or size is out of every bound as the nearest that can be shown", () => {
  const rows = [
    ["far", "f", "9223372036854775807", "9223372036854775807.0"],
    ["past", "f", "-1", "-9223372036854775808.0"],
    ["strange", "f", "x", "nan"],
    ["usual", "f", "3", "1700000000.25"],
    // As find prints one and a half seconds before 1970.
    ["within", "f", "3", "-2.5000000000"]
  ]
  const files = listed(
    rows
      .flatMap((row) => [...row, "644", ""])
      .map((field) => `${field}\0`)
      .join("")
  )
  assert.deepStrictEqual(
    files.map(({ modifiedAt, size }) => [size, new Date(modifiedAt.epochMilliseconds).toISOString()]),
    [
      [Number.MAX_SAFE_INTEGER, "9999-12-31T23:59:59.999Z"],
      [0, "0000-01-01T00:00:00.000Z"],
      [0, "1970-01-01T00:00:00.000Z"],
      [3, "2023-11-14T22:13:20.250Z"],
      [3, "1969-12-31T23:59:58.500Z"]
    ]
  )
})
