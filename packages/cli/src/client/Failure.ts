/** The failures of the command line, each with its sentence and exit code. */
import * as Data from "effect/Data"
import { ExitCode, ofStatus } from "../ExitCode.ts"

/** The API responded with an error. */
export class ApiRefused extends Data.TaggedError("ApiRefused")<{
  readonly status: number
  readonly code: string
  /** The API's own sentence. */
  readonly say: string
  readonly requestId: string | undefined
  /** Milliseconds until a retry may succeed. */
  readonly retryAfter: number | undefined
  /** The response as received. */
  readonly body: string
}> {}

/** There was no response, or it broke off. */
export class Unreachable extends Data.TaggedError("Unreachable")<{ readonly url: string; readonly why: string }> {}

/** The response is not from a Castellan server. */
export class NotCastellan extends Data.TaggedError("NotCastellan")<{ readonly url: string; readonly status: number }> {}

/** No API key is configured. */
export class KeyMissing extends Data.TaggedError("KeyMissing") {}

/** The command line or a setting is invalid. */
export class UsageRefused extends Data.TaggedError("UsageRefused")<{ readonly say: string }> {}

/** The server's data can't be used: a server has it open, or it is missing. */
export class DataUnavailable extends Data.TaggedError("DataUnavailable")<{
  readonly say: string
  readonly exit: number
}> {}

/** The run ended without an exit code of a command. */
export class RunFailed extends Data.TaggedError("RunFailed")<{ readonly say: string }> {}

/** The followed command ended; the command line exits with its exit code. */
export class CommandExited extends Data.TaggedError("CommandExited")<{ readonly exitCode: number }> {}

/** The reader of the output has closed it. */
export class OutputClosed extends Data.TaggedError("OutputClosed") {}

export type Failure =
  | ApiRefused
  | Unreachable
  | NotCastellan
  | KeyMissing
  | UsageRefused
  | DataUnavailable
  | RunFailed
  | CommandExited
  | OutputClosed

/** Whether the failure may be temporary: the server is unreachable, busy or failing. */
export const isTransient = (failure: Failure): boolean => {
  switch (failure._tag) {
    case "Unreachable":
      return true
    case "ApiRefused":
      return failure.status >= 500 || failure.status === 429
    case "NotCastellan":
      // A proxy responds with this while the server behind it restarts.
      return failure.status >= 500
    default:
      return false
  }
}

const where = "start one with `castellan serve`, or set CASTELLAN_URL to where it is"

const explainRefusal = ({ requestId, say, status }: ApiRefused): string => {
  if (status === 401) return `${say} (is CASTELLAN_API_KEY a key of this server, and still good?)`
  if (status >= 500 && requestId !== undefined) return `${say} (request ${requestId})`
  return say
}

const explainUnreachable = ({ url, why }: Unreachable): string => {
  switch (why) {
    case "ECONNREFUSED":
      return `no server listens at ${url} (${where})`
    case "ENOTFOUND":
      return `the host of ${url} is not known (is CASTELLAN_URL right?)`
    default:
      return `${url} can't be reached (${why})`
  }
}

/** The sentence for the user, and the exit code of the process. An empty sentence is not printed. */
export const explain = (failure: Failure): { readonly say: string; readonly exit: number } => {
  switch (failure._tag) {
    case "ApiRefused":
      return { say: explainRefusal(failure), exit: ofStatus(failure.status) }
    case "Unreachable":
      return { say: explainUnreachable(failure), exit: ExitCode.unreachable }
    case "NotCastellan":
      return {
        say: `${failure.url} is no Castellan server: it answered ${failure.status} in a form of its own`,
        exit: ExitCode.unreachable
      }
    case "KeyMissing":
      return {
        say: "no API key: set CASTELLAN_API_KEY to one (the server shows the first at its first start, `castellan keys create` makes more, `castellan admin-key --reset` replaces a lost one)",
        exit: ExitCode.denied
      }
    case "UsageRefused":
      return { say: failure.say, exit: ExitCode.usage }
    case "DataUnavailable":
      return { say: failure.say, exit: failure.exit }
    case "RunFailed":
      return { say: failure.say, exit: ExitCode.failed }
    case "CommandExited":
      return { say: "", exit: failure.exitCode }
    case "OutputClosed":
      return { say: "", exit: ExitCode.ok }
  }
}
