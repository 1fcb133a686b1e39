/** Issues the certificates with which the gateway terminates TLS. */
import forge from "node-forge"
import { createHash, createPrivateKey, generateKeyPair, type KeyObject, randomBytes, sign } from "node:crypto"
import { createSecureContext, type SecureContext } from "node:tls"
import { promisify } from "node:util"

const day = 24 * 60 * 60_000

/** The validity of an authority and of a host's certificate in milliseconds. Clients refuse more than 398 days for a host. */
const authorityValidFor = 3650 * day
const hostValidFor = 90 * day

/** The maximum number of cached certificates. */
const hostsAtMost = 1000

/** A certificate authority: the certificate that sandboxes trust, and the key, which never enters a sandbox. Both are PEM. */
export interface Authority {
  readonly certificate: string
  readonly key: string
}

const newKey = async () => {
  const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength: 2048 })
  return privateKey.export({ type: "pkcs8", format: "pem" }) as string
}

interface Fields {
  readonly subject: string
  readonly issuer: string
  readonly validFor: number
  readonly extensions: Array<object>
}

/** Signs a certificate for the public part of `key`. Node signs natively, about a hundred times faster than node-forge. */
const certificateOf = (key: string, signer: KeyObject, { extensions, issuer, subject, validFor }: Fields): string => {
  const certificate = forge.pki.createCertificate()
  const { e, n } = forge.pki.privateKeyFromPem(key)
  certificate.publicKey = forge.pki.setRsaPublicKey(n, e)
  // Positive and unique.
  certificate.serialNumber = `01${randomBytes(16).toString("hex")}`
  // A day of tolerance for the clocks of hosts that share a data directory.
  certificate.validity.notBefore = new Date(Date.now() - day)
  certificate.validity.notAfter = new Date(Date.now() + validFor)
  certificate.setSubject([{ name: "commonName", value: subject }])
  certificate.setIssuer([{ name: "commonName", value: issuer }])
  certificate.setExtensions(extensions)
  const algorithm = forge.pki.oids["sha256WithRSAEncryption"]!
  Object.assign(certificate, { signatureOid: algorithm })
  ;(certificate as unknown as { siginfo: { algorithmOid: string } }).siginfo.algorithmOid = algorithm
  const body = forge.asn1
    .toDer(
      (forge.pki as unknown as { getTBSCertificate: (of: object) => forge.asn1.Asn1 }).getTBSCertificate(certificate)
    )
    .getBytes()
  certificate.signature = sign("sha256", Buffer.from(body, "binary"), signer).toString("binary")
  return forge.pki.certificateToPem(certificate)
}

/** Creates the authority of a data directory. */
export const newAuthority = async (): Promise<Authority> => {
  const key = await newKey()
  const name = `Castellan sandbox gateway ${createHash("sha256").update(key).digest("hex").slice(0, 8)}`
  const extensions = [
    { name: "basicConstraints", cA: true, pathLenConstraint: 0, critical: true },
    { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    { name: "subjectKeyIdentifier" }
  ]
  const fields = { subject: name, issuer: name, validFor: authorityValidFor, extensions }
  return { certificate: certificateOf(key, createPrivateKey(key), fields), key }
}

export interface Certificates {
  /** The TLS context of a host. */
  readonly contextFor: (host: string) => Promise<SecureContext>
}

/** Issues certificates on demand. All hosts share one key. */
export const make = (authority: Authority): Certificates => {
  const signer = createPrivateKey(authority.key)
  const issuer = forge.pki.certificateFromPem(authority.certificate).subject.getField("CN").value as string
  let key: Promise<string> | undefined
  const contexts = new Map<string, SecureContext>()

  const contextFor = async (host: string) => {
    const known = contexts.get(host)
    if (known !== undefined) return known
    const own = await (key ??= newKey())
    const extensions = [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, keyEncipherment: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: [{ type: 2, value: host }] }
    ]
    // The common name is limited to 64 characters; clients use the alternative name.
    const fields = { subject: host.slice(0, 64), issuer, validFor: hostValidFor, extensions }
    const context = createSecureContext({ key: own, cert: certificateOf(own, signer, fields) })
    if (contexts.size >= hostsAtMost) contexts.clear()
    contexts.set(host, context)
    return context
  }

  return { contextFor }
}
