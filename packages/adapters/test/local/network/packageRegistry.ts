/** A package registry with one package, on this host's loopback. */
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

/** The name of the package, and its export. */
export const packageName = "castellan-greeting"
export const greeting = "hello from the registry"

/** A script that installs the package and prints its export. */
export const install = `mkdir -p app && cd app && npm init -y > /dev/null && npm install ${packageName} > ../log 2>&1 || cat ../log
node -p 'require("${packageName}")'`

const packed = async (): Promise<Buffer> => {
  const directory = await mkdtemp(join(tmpdir(), "castellan-package-"))
  try {
    await mkdir(join(directory, "package"))
    const manifest = { name: packageName, version: "1.0.0", main: "index.js" }
    await writeFile(join(directory, "package", "package.json"), JSON.stringify(manifest))
    await writeFile(join(directory, "package", "index.js"), `module.exports = ${JSON.stringify(greeting)}\n`)
    await promisify(execFile)("tar", ["-czf", "package.tgz", "package"], { cwd: directory })
    return await readFile(join(directory, "package.tgz"))
  } finally {
    await rm(directory, { recursive: true })
  }
}

const start = async () => {
  const tarball = await packed()
  const requested: Array<string> = []
  const server = createServer((request, response) => {
    const origin = `http://${request.headers.host}`
    requested.push(request.url!)
    if (request.url === `/${packageName}`) {
      const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`
      const dist = { tarball: `${origin}/${packageName}/-/it.tgz`, integrity }
      const versions = { "1.0.0": { name: packageName, version: "1.0.0", main: "index.js", dist } }
      response.setHeader("content-type", "application/json")
      return response.end(JSON.stringify({ name: packageName, "dist-tags": { latest: "1.0.0" }, versions }))
    }
    if (request.url?.endsWith(".tgz")) return response.end(tarball)
    return response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  return { url, requested, close: () => server.close().closeAllConnections() }
}

/** Runs the registry until the scope closes. `requested` are the paths that were requested. */
export const packageRegistry = Effect.acquireRelease(Effect.promise(start), ({ close }) => Effect.sync(close))
