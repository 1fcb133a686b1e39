import { assert, describe, it } from "vitest"
import { Comparison, stepsOf } from "../console.ts"

const none = new Map<string, string>()

const matches = (shown: string, actual: string) => new Comparison().matches(shown, actual, none)

describe("The steps of a document", () => {
  it("are the commands of its console blocks with the shown output", () => {
    const document = [
      "text",
      "```sh",
      "$ no step",
      "```",
      "```console",
      "$ curl -s \\",
      "    localhost",
      "{}",
      "",
      "$ true",
      "```",
      "$ no step"
    ]
    assert.deepStrictEqual(stepsOf(document.join("\n")), [
      { line: 6, command: "curl -s \\\n    localhost", shown: "{}" },
      { line: 10, command: "true", shown: "" }
    ])
  })
})

describe("The comparison of a shown output with an actual one", () => {
  const shown = `{"sandboxId":"sbx_przh8wmwvnj7s0h78nq1","status":"running","timeout":1799971,"at":"2026-11-21T06:21:30.311Z"}`

  it("accepts other ids, times, durations and ports", () => {
    const actual = `{"sandboxId":"sbx_a","status":"running","timeout":1799000,"at":"2027-01-01T00:00:00.000Z"}`
    assert.isTrue(matches(shown, actual))
    assert.isTrue(matches("ready  301 ms\nleft  29 min 59 s", "ready  7 ms\nleft  5 min 0 s"))
    assert.isTrue(matches("http://localhost:3000/", "http://localhost:41873/"))
    assert.isTrue(matches("git version 2.39.5", "git version 2.47.1.windows"))
  })

  for (const [what, from, to] of [
    ["a status that differs", "running", "pending"],
    ["a key that is missing", `"status":"running",`, ""],
    ["a key that is too much", `"timeout"`, `"extra":1,"timeout"`],
    ["a key of another name", "sandboxId", "sandbox_id"],
    ["an id of another kind", "sbx_", "run_"],
    ["a duration that is short", "1799971", "17"],
    ["a time of another form", "2026-11-21T06:21:30.311Z", "1795242090311"],
    ["output after the end", "}", "}\noops"]
  ] as const) {
    it(`rejects ${what}`, () => {
      assert.isTrue(matches(shown, shown))
      assert.isFalse(matches(shown, shown.replace(from, to)))
    })
  }

  it("rejects output that the document does not show, and missing output that it shows", () => {
    assert.isFalse(matches("", "curl: not found"))
    assert.isFalse(matches("done", ""))
  })

  it("rejects a version of Node other than the pinned one", () => {
    assert.isFalse(matches("v24.21.0", "v24.22.0"))
  })

  it("rejects an elision whose surroundings differ", () => {
    assert.isTrue(matches(`{"a":1,"b":"sbx_1", …`, `{"a":1,"b":"sbx_2", "c":[\n3]}`))
    assert.isTrue(matches(`[ … ]`, `[ 1, 2 ]`))
    assert.isFalse(matches(`[ … ]`, `[ 1, 2 }`))
  })

  it("ignores the widths of columns", () => {
    assert.isTrue(
      matches("ID     STATUS\nsbx_1  running", "ID                        STATUS\nsbx_bvrnzntgrr4t4wrrmaqy  running")
    )
    assert.isFalse(matches("ID     STATUS\nsbx_1  running", "ID     STATE\nsbx_1  running"))
    assert.isFalse(matches("ID     STATUS", "ID STATUS"))
  })

  it("rejects two ids where the document repeats one", () => {
    assert.isTrue(matches("sbx_1 and sbx_1", "sbx_2 and sbx_2"))
    assert.isFalse(matches("sbx_1 and sbx_1", "sbx_2 and sbx_3"))
    const comparison = new Comparison()
    assert.isTrue(comparison.matches("sbx_1", "sbx_2", none))
    assert.isFalse(comparison.matches("sbx_1", "sbx_3", none))
  })

  it("joins adjacent log events of one stream", () => {
    const event = (id: string, text: string) =>
      `id: ${id}\nevent: output\ndata: {"stream":"stdout","text":"${text}"}\n\n`
    const end = `event: exit\ndata: {"status":"COMPLETED"}\n\n`
    const whole = event("9.0", String.raw`a\nb\nc\"\n`) + end
    assert.isTrue(
      matches(
        whole,
        event("2.0", String.raw`a\n`) + event("4.0", String.raw`b\n`) + event("7.0", String.raw`c\"\n`) + end
      )
    )
    assert.isFalse(matches(whole, event("2.0", String.raw`a\n`) + event("7.0", String.raw`c\"\n`) + end))
  })
})

describe("The commands of a document", () => {
  it("contain the received ids and the facts of this machine", () => {
    const facts = new Map([
      ["cst_…", "cst_secret"],
      ["localhost:3000", "localhost:4000"]
    ])
    const comparison = new Comparison()
    assert.isTrue(comparison.matches(`{"runId":"run_abc"}`, `{"runId":"run_xyz"}`, facts))
    assert.deepStrictEqual(comparison.commandOf("curl -H cst_… localhost:3000/run_abc", facts), {
      command: "curl -H cst_secret localhost:4000/run_xyz",
      unknown: []
    })
  })

  it("are reported with ids that no output has shown", () => {
    assert.deepStrictEqual(new Comparison().commandOf("castellan runs get run_abc", none).unknown, ["run_abc"])
  })
})
