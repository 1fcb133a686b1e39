import { parse } from "../arguments.ts"
import { assert, describe, it } from "vitest"

const command = {
  name: "npm run measure",
  about: "Measures things.",
  options: {
    quick: { type: "switch", about: "Measure little." },
    rows: { type: "integer", about: "Rows of the table.", min: 1000, max: 5000, multipleOf: 1000, default: 2000 },
    seed: { type: "integer", about: "Where to begin.", min: 0, max: 10 },
    path: { type: "text", about: "numbers with colons between them", pattern: /^\d+(:\d+)*$/ }
  },
  positionals: { seconds: { type: "integer", about: "How long.", min: 1, max: 60, default: 5 } }
} as const

const refusal = (...args: ReadonlyArray<string>) => {
  const parsed = parse(command, args)
  assert(parsed._tag === "Refused", `expected a refusal, got ${JSON.stringify(parsed)}`)
  return parsed.sentence
}

describe("The arguments of the development commands", () => {
  it("fills in defaults for omitted options", () => {
    assert.deepStrictEqual(parse(command, []), {
      _tag: "Values",
      values: { quick: false, rows: 2000, seed: undefined, path: undefined, seconds: 5 },
      words: []
    })
  })

  it("reads switches, numbers and text", () => {
    assert.deepStrictEqual(parse(command, ["--quick", "--rows", "3000", "--seed=0", "--path", "1:2", "60"]), {
      _tag: "Values",
      values: { quick: true, rows: 3000, seed: 0, path: "1:2", seconds: 60 },
      words: []
    })
  })

  it("rejects an unknown option", () => {
    assert.strictEqual(refusal("--fast"), "Unknown option '--fast'. See npm run measure -- --help.")
  })

  it("rejects an extra argument", () => {
    assert.strictEqual(refusal("5", "10"), 'Unexpected argument "10". See npm run measure -- --help.')
  })

  it("rejects an option without its value", () => {
    assert.match(refusal("--rows"), /^Option '--rows <value>' argument missing\. See /)
  })

  for (const text of ["x", "", "1.5", "-3000", "1e3", "0x7d0", "999", "6000", "2500", "9".repeat(400)]) {
    it(`rejects "${text.slice(0, 20)}" as a multiple of 1000 from 1000 to 5000`, () => {
      assert.strictEqual(
        refusal(`--rows=${text}`),
        `--rows must be a multiple of 1000 from 1000 to 5000, not "${text}". See npm run measure -- --help.`
      )
    })
  }

  it("rejects a positional argument that is out of bounds", () => {
    assert.match(refusal("0"), /^seconds must be a whole number from 1 to 60, not "0"\./)
  })

  it("rejects text that does not match the pattern", () => {
    assert.match(refusal("--path", "a:b"), /^--path is numbers with colons between them, not "a:b"\./)
  })

  it("accepts known words, and lists them when it rejects another", () => {
    const withWords = {
      name: "npm run measure",
      about: "",
      options: {},
      words: { apps: "Web apps.", images: "Images." }
    }
    const parsed = parse(withWords, ["images", "apps"])
    assert.deepStrictEqual(parsed._tag === "Values" && parsed.words, ["images", "apps"])
    const refused = parse(withWords, ["imges"])
    assert.strictEqual(
      refused._tag === "Refused" && refused.sentence,
      'Unexpected argument "imges". The names are apps, images. See npm run measure -- --help.'
    )
  })

  it("describes every option, positional argument and default in its help", () => {
    const parsed = parse(command, ["--help"])
    assert(parsed._tag === "Help")
    for (const part of ["Measures things.", "--quick", "--rows <value>", "(default 2000)", "<seconds>", "How long."]) {
      assert.include(parsed.text, part)
    }
  })
})
