/** Points an unchanged program at an emulator. */
import type { Emulator } from "./VercelEmulator.ts"

const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url")

/** An unsigned token in place of Vercel's OIDC token. Clients read only its claims. */
const token = [
  encoded({ alg: "none", typ: "JWT" }),
  encoded({ owner_id: "team_emulated", project_id: "prj_emulated", exp: 4_102_444_800 }),
  "unsigned"
].join(".")

/**
 * Environment variables that make a Node program with `@vercel/sandbox`, or the `sandbox` command, use the emulator. They
 * work on every Node with `--import`.
 */
export const variables = ({ url }: Pick<Emulator, "url">): { NODE_OPTIONS: string; VERCEL_OIDC_TOKEN: string } => {
  const preload = new URL("./preload.mjs", import.meta.url)
  preload.searchParams.set("api", new URL(url).origin)
  return { NODE_OPTIONS: `--import=${preload.href}`, VERCEL_OIDC_TOKEN: token }
}
