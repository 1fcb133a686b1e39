/** Which failures say that the database is not there just now, and that it may be soon. */

/** What the system says of a connection that can't be made, or broke. */
const ofConnections = ["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENOTFOUND", "EAI_AGAIN"]

/**
 * What Postgres says when it starts or stops, has no room, or gave up a statement that took too long; those of class 08 are
 * about the connection. (PostgreSQL documentation, appendix A.)
 */
const ofPostgres = ["57P01", "57P02", "57P03", "53300", "57014", "25P03"]

/** What the driver says of a connection; it has no codes for it. */
const ofDriver = /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection)/

/** Whether a statement failed because the database is away. */
export const isAway = (failure: unknown): boolean => {
  const { code, message } = (failure ?? {}) as { readonly code?: unknown; readonly message?: unknown }
  if (typeof code === "string" && (code.startsWith("08") || [...ofConnections, ...ofPostgres].includes(code)))
    return true
  return typeof message === "string" && ofDriver.test(message)
}
