// Installs what is pinned, with any Node from 18 on, and only where something changed since the last time.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const pnpm = "pnpm@12.21.0"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const stamp = join(root, "node_modules", ".installed")

const manifests = [
  "pnpm-lock.yaml",
  "pnpm-workspace.yaml",
  "package.json",
  ...["packages", "examples"].flatMap((folder) =>
    readdirSync(join(root, folder)).map((name) => join(folder, name, "package.json"))
  )
]

const hash = createHash("sha256").update(pnpm)
for (const file of manifests) hash.update(file).update(readFileSync(join(root, file)))
const wanted = hash.digest("hex")

if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
  console.log("Installing what is pinned in pnpm-lock.yaml …")
  const { status } = spawnSync("npx", ["-y", pnpm, "install", "--frozen-lockfile"], {
    cwd: root,
    stdio: "inherit",
    // The caller's own production setting must not leave out what the tests and the pinned Node need.
    env: { ...process.env, NODE_ENV: "development", npm_config_loglevel: "error" }
  })
  if (status !== 0) {
    console.error("The installation failed; the lines above say why. It needs npm and the npm registry.")
    process.exit(status ?? 1)
  }
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, wanted)
}
