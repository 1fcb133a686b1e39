/** Encodes a file's bytes for a JSON response. */

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** As text if the bytes are UTF-8 without NUL, otherwise as base64. */
export const contentOf = (bytes: Uint8Array): { readonly content: string; readonly encoding?: "base64" } => {
  const base64 = { content: Buffer.from(bytes).toString("base64"), encoding: "base64" as const }
  if (bytes.includes(0)) return base64
  try {
    return { content: utf8.decode(bytes) }
  } catch {
    return base64
  }
}
