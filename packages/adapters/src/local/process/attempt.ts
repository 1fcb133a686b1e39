/** Turns failures of Node's functions into `SandboxUnavailable`. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"

/** Error codes of resources that the host runs out of for a while. */
const transientCodes: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "EAGAIN", "ENOMEM"])

/** Whether a later attempt may succeed, by the system's error code. */
export const isTransient = (code: string | undefined): boolean => code !== undefined && transientCodes.has(code)

const unavailable = (operation: string, cause: unknown) =>
  new SandboxUnavailable({
    operation,
    retryable: isTransient((cause as NodeJS.ErrnoException | undefined)?.code),
    cause
  })

/** A promise of Node as an effect. It fails with `SandboxUnavailable`, retryable if the host lacked a resource. */
export const attempt = <A>(operation: string, run: (signal: AbortSignal) => PromiseLike<A>) =>
  Effect.tryPromise({
    try: (signal) => run(signal),
    catch: (cause) => unavailable(operation, cause)
  })

/** As `attempt`, for a synchronous function. */
export const attemptSync = <A>(operation: string, run: () => A) =>
  Effect.try({ try: run, catch: (cause) => unavailable(operation, cause) })
