/** What the command line's exit codes mean: the one place that knows. */
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

/** Each code with what it says, as `--help` and the documentation have it. */
export const meanings: ReadonlyArray<readonly [code: number, meaning: string]> = [
  [ExitCode.ok, "it worked"],
  [ExitCode.failed, "the request was refused, or the run failed"],
  [ExitCode.usage, "the command line can't be understood"],
  [ExitCode.denied, "no key, or one that may not do this"],
  [ExitCode.notFound, "there is no such thing, or it is not yours"],
  [ExitCode.unreachable, "the server can't be reached, or failed"],
  [ExitCode.conflict, "something is in the way: a conflict, a limit, a quota"],
  [ExitCode.interrupted, "ended by Ctrl-C"]
]

/** The table as `--help` shows it. */
export const exitCodesHelp: string = [
  "Exit codes:",
  ...meanings.map(([code, meaning]) => `    ${String(code).padEnd(5)}${meaning}`),
  "  Where a command is followed, its own exit code is given in place of 0."
].join("\n")

/** The code for an answer of that HTTP status, which is no success. */
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
