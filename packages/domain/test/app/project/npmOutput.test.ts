import { formatNpmOutput, packageNotInRegistry } from "../../../src/app/project/npmOutput.ts"
import { PackageName } from "../../../src/app/project/PackageName.ts"
import { assert, describe, it } from "@effect/vitest"

const notFound = `npm error code E404
npm error 404 Not Found - GET https://registry.test/no-such - Not found
npm error 404
npm error 404  The requested resource 'no-such@*' could not be found or you do not have permission to access it.
npm error 404 Note that you can also install from a
npm error 404 tarball, folder, http url, or git folder.
npm error A complete log of this run can be found in: /home/user/.npm/_logs/2026-11-21T18_00_00_000Z-debug-0.log
`

describe("npm output", () => {
  it("keeps npm's message and drops hosts, log paths and error codes", () => {
    const text = formatNpmOutput(notFound)
    assert.include(text, "404 Not Found - GET /no-such - Not found")
    assert.include(text, "could not be found or you do not have permission")
    for (const word of ["registry.test", "_logs", "npm error", "E404", "tarball"]) assert.notInclude(text, word)
  })

  it("drops colors and repeated lines", () => {
    assert.strictEqual(formatNpmOutput("\u001b[31mnpm error\u001b[0m \u001b[1mbad\u001b[0m\nnpm error bad\n"), "bad")
  })

  it("truncates a long message", () => {
    const lines = Array.from({ length: 500 }, (_, n) => `npm error line ${n}`).join("\n")
    const text = formatNpmOutput(lines)
    assert.isAtMost(text.length, 2010)
    assert.isTrue(text.startsWith("line 0\nline 1\n"))
    assert.isTrue(text.endsWith("…"))
  })

  it("names the requested package that the registry lacks, also for a scope or a version", () => {
    const asked = ["react", "foo", "no-such", "@a/foo", "react@999"].map((name) => PackageName.make(name))
    const missing = (output: string, among = asked) => packageNotInRegistry(output, among)
    const notHere = (name: string, url = name) =>
      `npm error code E404\nnpm error 404 Not Found - GET https://registry.test/npm/${url}\nnpm error 404\nnpm error 404  The requested resource '${name}@*' could not be found\n`
    assert.strictEqual(missing(notFound), "no-such")
    assert.strictEqual(missing(notHere("@a/foo", "@a%2ffoo")), "@a/foo")
    assert.strictEqual(missing(notHere("foo")), "foo")
    const old = "npm ERR! code E404\nnpm ERR! 404 Not Found - GET https://registry.test/@a%2ffoo - Not found\n"
    assert.strictEqual(missing(old), "@a/foo")
    const version = "npm error code ETARGET\nnpm error notarget No matching version found for react@999.\n"
    assert.strictEqual(missing(version, [asked[1]!, asked[4]!]), "react@999")
  })

  it("names no package if the registry is down or a package that was not requested is missing", () => {
    const asked = [PackageName.make("react"), PackageName.make("foo")]
    for (const output of [
      "npm error code ECONNREFUSED\nnpm error request to https://registry.test/react failed\n",
      "npm error code E500\nnpm error 500 Internal Server Error - GET https://registry.test/react\n",
      "npm error code E404\nnpm error 404 Not Found - GET https://registry.test/react-of-another\n",
      "npm error code E404\nnpm error 404 Not Found - GET https://registry.test/@a%2ffoo\n",
      "react@1 prints npm error code E404"
    ]) {
      assert.isUndefined(packageNotInRegistry(output, asked), output)
    }
  })

  it("never formats a failure as an empty message", () => {
    for (const output of ["", "\n\n", "npm error\n", "npm error code EUNKNOWN\n"])
      assert.isAbove(formatNpmOutput(output).length, 10)
  })
})
