/** Exit codes of the command line. */
export const ExitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  denied: 3,
  notFound: 4,
  unreachable: 5,
  conflict: 6,
  interrupted: 130
} as const

/** The meaning of each code, as shown by `--help` and documented in docs/command-line.md. */
export const meanings: ReadonlyArray<readonly [code: number, meaning: string]> = [
  [ExitCode.ok, "success"],
  [ExitCode.failed, "the server refused the request, or the run failed"],
  [ExitCode.usage, "the command line or the environment is invalid"],
  [ExitCode.denied, "no valid API key, or one without permission"],
  [ExitCode.notFound, "not found, or it belongs to another account"],
  [ExitCode.unreachable, "the server can't be reached, or failed"],
  [ExitCode.conflict, "a conflict, a rate limit or a quota"],
  [ExitCode.interrupted, "interrupted by Ctrl-C"]
]

/** The table as `--help` shows it. */
export const exitCodesHelp: string = [
  "Exit codes:",
  ...meanings.map(([code, meaning]) => `    ${String(code).padEnd(5)}${meaning}`),
  "  A followed command that ends with another code than 0 determines the exit code."
].join("\n")

/** The exit code for an error response with this HTTP status. */
export const ofStatus = (status: number): number => {
  switch (status) {
    case 401:
    case 403:
      return ExitCode.denied
    case 404:
      return ExitCode.notFound
    case 409:
    case 429:
      return ExitCode.conflict
    default:
      return status >= 500 ? ExitCode.unreachable : ExitCode.failed
  }
}
