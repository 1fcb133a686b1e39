/** Distinguishes failures of the connection or the disk, which are transient, from failures of a statement. */
import { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import { PathChanged } from "../../process/PathIdentity.ts"

/** System error codes of a connection that can't be opened or was lost. */
const systemCodes = ["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENOTFOUND", "EAI_AGAIN"]

/**
 * SQLSTATE codes of a server that is starting or stopping, has no free connection, or canceled a statement that took too
 * long. All codes of class 08 are connection errors too. (PostgreSQL documentation, appendix A.)
 */
const postgresCodes = ["57P01", "57P02", "57P03", "53300", "57014", "25P03"]

/** SQLSTATE codes of a disk that is full or broken. */
const diskCodes = new Map([
  ["53100", "The disk of the database is full"],
  ["58030", "The disk of the database can't be read or written"]
])

/** Messages of the driver about its connection, which have no codes. */
const driverMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection)/

/** Whether a statement failed because of its connection. */
const isConnectionError = (code: unknown, message: unknown): boolean =>
  (typeof code === "string" && (code.startsWith("08") || [...systemCodes, ...postgresCodes].includes(code))) ||
  (typeof message === "string" && driverMessages.test(message))

/** The defect for a failed statement if the database is unavailable; undefined if the statement itself is at fault. */
export const unavailableBecauseOf = (cause: unknown): DatabaseUnavailable | undefined => {
  if (cause instanceof PathChanged) return new DatabaseUnavailable(cause, `The data directory ${cause.change}`)
  const { code, message } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown }
  const disk = typeof code === "string" ? diskCodes.get(code) : undefined
  return disk !== undefined || isConnectionError(code, message) ? new DatabaseUnavailable(cause, disk) : undefined
}
