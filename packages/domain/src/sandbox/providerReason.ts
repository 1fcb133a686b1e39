import { type FailureReason, lasting, passing } from "../FailureReason.ts"
import type { SandboxUnavailable } from "./SandboxProvider.ts"

/** What the owner of a sandbox is told of a failure of its provider. */
export const providerReason = ({ retryable }: SandboxUnavailable): FailureReason =>
  retryable
    ? passing("provider_unavailable", "The sandbox provider could not be reached")
    : lasting("provider_refused", "The sandbox provider refused the server's request")
