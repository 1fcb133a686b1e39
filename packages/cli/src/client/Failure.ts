/** What can go wrong for the command line, each with the sentence and the exit code it ends with. */
import * as Data from "effect/Data"
import { ExitCode, ofStatus } from "../ExitCode.ts"

/** The API answered with an error. */
export class ApiRefused extends Data.TaggedError("ApiRefused")<{
  readonly status: number
  readonly code: string
  /** The API's own sentence. */
  readonly say: string
  readonly requestId: string | undefined
  /** Milliseconds after which asking again is worth it. */
  readonly retryAfter: number | undefined
  /** The answer as it came. */
  readonly body: string
}> {}

/** No answer came, or it broke off. */
export class Unreachable extends Data.TaggedError("Unreachable")<{ readonly url: string; readonly why: string }> {}

/** What answered is not a Castellan server. */
export class NotCastellan extends Data.TaggedError("NotCastellan")<{ readonly url: string; readonly status: number }> {}

/** There is no key to show the server. */
export class KeyMissing extends Data.TaggedError("KeyMissing") {}

/** The command line, or a setting, asks for what can't be. */
export class UsageRefused extends Data.TaggedError("UsageRefused")<{ readonly say: string }> {}

/** The server's data can't be used: a server has it, or it is not there. */
export class DataUnavailable extends Data.TaggedError("DataUnavailable")<{
  readonly say: string
  readonly exit: number
}> {}

/** The run ended without an exit code of a command. */
export class RunFailed extends Data.TaggedError("RunFailed")<{ readonly say: string }> {}

/** The followed command came to its own end, and its exit code is ours. */
export class CommandExited extends Data.TaggedError("CommandExited")<{ readonly exitCode: number }> {}

/** Nobody reads our output any more. */
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

/** Whether it may be over soon: the server is away, or busy, or unwell. */
export const isTransient = (failure: Failure): boolean => {
  switch (failure._tag) {
    case "Unreachable":
      return true
    case "ApiRefused":
      return failure.status >= 500 || failure.status === 429
    case "NotCastellan":
      // A proxy says this while the server behind it starts again.
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
