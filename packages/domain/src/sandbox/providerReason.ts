import { type FailureReason, permanent, transient } from "../FailureReason.ts"
import type { SandboxUnavailable } from "./SandboxProvider.ts"

/** The reason for a failure of the provider, for the owner of the sandbox. */
export const providerReason = ({ fault, retryable }: SandboxUnavailable): FailureReason => {
  if (fault === "no_answer") return transient("sandbox_no_answer", "The sandbox did not answer in time")
  if (fault === "bad_answer") return permanent("sandbox_bad_answer", "The sandbox gave an answer that can't be used")
  return retryable
    ? transient("provider_unavailable", "The sandbox provider could not be reached")
    : permanent("provider_refused", "The sandbox provider refused the server's request")
}
