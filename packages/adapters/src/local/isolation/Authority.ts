/** The certificate authority that the sandboxes of a data directory trust, so that the gateway can terminate TLS. */
import { existsSync, readFileSync } from "node:fs"
import { chmod, rename, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { rootCertificates } from "node:tls"
import { type Authority, newAuthority } from "../../network/Certificates.ts"
import { randomId, readText } from "../storage/files.ts"
import type { Layout } from "../storage/Layout.ts"
import { fixedFiles } from "./rootFiles.ts"

/** The file of certificates that programs in a sandbox trust: those of the host and the authority's. */
const bundleName = "ca-bundle.pem"

/** Its path inside a sandbox. */
export const bundlePath = `/${fixedFiles}/${bundleName}`

/** The paths of the certificate bundle on common distributions. */
export const hostBundles = [
  "etc/ssl/certs/ca-certificates.crt",
  "etc/pki/tls/certs/ca-bundle.crt",
  "etc/ssl/ca-bundle.pem",
  "etc/ssl/cert.pem"
]

const authorityFile = (layout: Layout) => join(layout.root, "authority.json")

const replace = async (file: string, text: string, mode: number) => {
  const next = `${file}.${randomId()}`
  await writeFile(next, text, { mode })
  await chmod(next, mode)
  await rename(next, file)
}

/** Reads the authority, which `place` has created. Only the server's user can read it, and no sandbox can. */
export const read = (layout: Layout): Authority => JSON.parse(readFileSync(authorityFile(layout), "utf8")) as Authority

/** Creates the authority unless it exists, and the file of certificates that sandboxes trust. */
export const place = async (layout: Layout): Promise<void> => {
  if (!existsSync(authorityFile(layout)))
    await replace(authorityFile(layout), JSON.stringify(await newAuthority()), 0o600)
  const found = hostBundles.map((path) => readText(`/${path}`)).find((text) => text !== undefined)
  const bundle = `${(found ?? rootCertificates.join("\n")).trim()}\n${read(layout).certificate.trim()}\n`
  const file = join(layout.runtimeRoot, fixedFiles, bundleName)
  // Replaces the file, because running sandboxes have the old one mounted.
  if (readText(file) !== bundle) await replace(file, bundle, 0o644)
}

/** Environment variables that name the file to programs with their own list of certificates. */
export const trustVariables: Readonly<Record<string, string>> = Object.fromEntries(
  [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "DENO_CERT"
  ].map((name) => [name, bundlePath])
)
