/** Which failures say that the database is not there just now, and that it may be soon. */
import { PathChanged } from "../../process/PathIdentity.ts"

/** What the system says of a connection that can't be made, or broke. */
const ofConnections = ["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENOTFOUND", "EAI_AGAIN"]

/**
 * What Postgres says when it starts or stops, has no room, or gave up a statement that took too long; those of class 08 are
 * about the connection. (PostgreSQL documentation, appendix A.)
 */
const ofPostgres = ["57P01", "57P02", "57P03", "53300", "57014", "25P03"]

/** What Postgres says of its disk: there is no space, or it can't be read or written. */
const ofDisks = new Map([
  ["53100", "The disk of the database is full"],
  ["58030", "The disk of the database can't be read or written"]
])

/** What the driver says of a connection; it has no codes for it. */
const ofDriver = /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection)/

/** What to say of a failed statement, if it failed because the database can't be used just now. */
export const awayBecause = (failure: unknown): { readonly reason?: string } | undefined => {
  if (failure instanceof PathChanged) return { reason: `The data directory ${failure.lost}` }
  const { code, message } = (failure ?? {}) as { readonly code?: unknown; readonly message?: unknown }
  const reason = typeof code === "string" ? ofDisks.get(code) : undefined
  if (reason !== undefined) return { reason }
  if (typeof code === "string" && (code.startsWith("08") || [...ofConnections, ...ofPostgres].includes(code))) return {}
  return typeof message === "string" && ofDriver.test(message) ? {} : undefined
}
