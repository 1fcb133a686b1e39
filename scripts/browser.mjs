// Runs the tests that need a browser. Uses an installed Chromium or installs one; otherwise prints which tests it skips.
import { spawnSync } from "node:child_process"
import { accessSync, constants, readdirSync } from "node:fs"
import { delimiter, join } from "node:path"

const names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]

const isProgram = (file) => {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const inPath = (name) =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find(isProgram)

const found = () => process.env.CHROMIUM ?? names.map(inPath).find((file) => file !== undefined)

const install = () => {
  if (process.getuid?.() !== 0 || inPath("apt-get") === undefined) return
  console.log("Installing chromium …")
  const options = { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } }
  spawnSync("apt-get", ["update", "-qq"], options)
  spawnSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", "chromium"], options)
}

if (found() === undefined) install()
const chromium = found()

if (chromium === undefined) {
  const files = readdirSync(join("packages", "http", "test"), { recursive: true, encoding: "utf8" })
  const skipped = files.filter((file) => file.endsWith(".browser.ts"))
  console.log(`Skipped, because Chromium is not installed and cannot be installed here: ${skipped.join(", ")}`)
  console.log("Install Chromium, or set CHROMIUM to the path of its program.")
} else {
  const tests = [join("scripts", "test.mjs"), "--config", "vitest.browser.ts"]
  const { status } = spawnSync(process.execPath, tests, {
    stdio: "inherit",
    env: { ...process.env, CHROMIUM: chromium }
  })
  process.exit(status ?? 1)
}
