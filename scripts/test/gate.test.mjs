// Tests `npm test` itself: runs the real command in a copy of the checkout with a few tests made for it.
import assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..")
const copies = mkdtempSync(join(tmpdir(), "castellan-gate-"))
// The copies share the packages installed here, so these must be the ones that they would install.
before(() => assert.equal(spawnSync(process.execPath, [join(root, "scripts", "install.cjs")]).status, 0))
after(() => rmSync(copies, { recursive: true, force: true }))

const places = {
  domain: "packages/domain",
  testkit: "packages/testkit",
  adapters: "packages/adapters",
  http: "packages/http",
  cli: "packages/cli",
  scripts: "scripts",
  examples: "examples/hono"
}

const listed = spawnSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root })
const tracked = listed.stdout
  .toString()
  .split("\0")
  .filter((file) => file !== "" && existsSync(join(root, file)))

const test = (body) => `import { it } from "vitest"\nit("is made for the gate", async () => {\n${body}\n})\n`
const passing = test("")
const failing = test('throw new Error("made to fail")')

/** The setup of http takes most of the time of a run; a fault that does not concern it runs without it. */
const noSetup = { "packages/http/test/migratedDatabase.ts": "export const setup = () => undefined\n" }

/** A copy of the checkout with one passing test in each project, besides the given files. */
const copyWith = (files) => {
  const copy = mkdtempSync(join(copies, "copy-"))
  for (const file of tracked) {
    if (/\.(test|browser)\.ts$/.test(file)) continue
    mkdirSync(join(copy, dirname(file)), { recursive: true })
    cpSync(join(root, file), join(copy, file))
  }
  const packages = new Set(tracked.filter((file) => file.endsWith("package.json")).map(dirname))
  for (const directory of packages) {
    const modules = join(root, directory, "node_modules")
    if (existsSync(modules)) symlinkSync(modules, join(copy, directory, "node_modules"))
  }
  const all = Object.fromEntries(Object.values(places).map((place) => [`${place}/test/gate.test.ts`, passing]))
  for (const [file, text] of Object.entries({ ...all, ...files })) {
    if (text === undefined) continue
    mkdirSync(join(copy, dirname(file)), { recursive: true })
    writeFileSync(join(copy, file), text)
  }
  return copy
}

const run = (copy, args = ["test"]) =>
  new Promise((resolve) => {
    const npm = spawn("npm", ["--silent", "run", ...args], { cwd: copy, stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [npm.stdout, npm.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text))
    npm.on("close", (code) => resolve({ code, output }))
  })

const inFile = (place, text) => ({ [`${places[place]}/test/gate.test.ts`]: text })

/** Each fault: the files that cause it, what the run says about it, and the command if it is not `npm test`. */
const faults = {
  ...Object.fromEntries(
    Object.keys(places).map((place) => [
      `a test of ${place} fails while all others pass`,
      { files: inFile(place, failing), says: /1 failed/ }
    ])
  ),
  "a test file can't be loaded": { files: inFile("domain", "const ="), says: /1 test files failed/ },
  "a promise is rejected that nobody awaits": {
    files: inFile(
      "testkit",
      test('void Promise.reject(new Error("lost"))\nawait new Promise((done) => setTimeout(done, 50))')
    ),
    says: /1 unhandled errors/
  },
  "a worker is killed": {
    files: inFile("adapters", test('process.kill(process.pid, "SIGKILL")\nawait new Promise(() => {})')),
    says: /The test run failed/
  },
  "a worker exits with code 0": {
    files: inFile("http", test("process.reallyExit(0)")),
    says: /The test run failed/
  },
  "a project has no tests": { files: inFile("examples", undefined), says: /no test ran of examples/ },
  "no test matches the filter": { files: {}, args: ["test", "--", "nothing-of-this-name"], says: /no test ran/ },
  "every test is skipped": {
    files: inFile("domain", 'import { it } from "vitest"\nit.skip("is skipped", () => {})\n'),
    args: ["test", "--", "--project", "domain"],
    says: /no test ran/
  },
  ...Object.fromEntries(
    [
      ["adapters", "packages/adapters/test/embeddedPostgres.ts"],
      ["http", "packages/http/test/migratedDatabase.ts"]
    ].map(([place, file]) => [
      `the setup of ${place} fails`,
      { files: { [file]: 'export const setup = () => { throw new Error("no setup") }\n' }, says: /The test run failed/ }
    ])
  ),
  "a library ends vitest with code 0 when a test has failed": {
    files: {
      ...inFile("domain", failing),
      "packages/adapters/test/embeddedPostgres.ts":
        "export const setup = () => () => { process.reallyExit(0) }\nprocess.on('exit', () => process.reallyExit(0))\n"
    },
    says: /1 failed/
  },
  "a library ends vitest with code 0 before the end": {
    files: { "packages/adapters/test/embeddedPostgres.ts": "export const setup = () => { process.reallyExit(0) }\n" },
    says: /vitest ended before it reported the end of the run/
  },
  "a slow test fails": {
    files: { "packages/http/test/gate.soak.test.ts": failing },
    args: ["test:soak"],
    says: /1 failed/
  }
}

describe("npm test", { concurrency: 2 }, () => {
  it("exits with 0 and prints the counts when every test passes", async () => {
    const { code, output } = await run(copyWith({}))
    assert.equal(code, 0, output)
    assert.match(output, new RegExp(`^${Object.keys(places).length} passed, 0 failed, 0 skipped$`, "m"))
  })

  for (const [fault, { args, files, says }] of Object.entries(faults)) {
    it(`exits with another code than 0 when ${fault}`, async () => {
      const { code, output } = await run(copyWith({ ...noSetup, ...files }), args)
      assert.notEqual(code, 0, output)
      assert.match(output, says)
    })
  }
})
