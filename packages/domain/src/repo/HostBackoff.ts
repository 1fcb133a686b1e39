/** Remembers failures of the repository host, so that it is not asked again too soon. */
import type { ReadAs } from "./ReadAs.ts"
import type { RepoUnavailable } from "./RepoHost.ts"

/** Shortest and longest back-off, in milliseconds. */
export const backoffMs = { min: 5_000, max: 3_600_000 }

interface Backoff {
  /** Monotonic milliseconds. */
  readonly until: number
  readonly failure: RepoUnavailable
}

/** A failure without a retry time is a back-off for one tree; one with a retry time is for all trees read the same way. */
export class HostBackoff {
  /** In the order of their ends. */
  private readonly ofTree = new Map<string, Backoff>()
  private readonly ofHost = new Map<ReadAs, Backoff>()

  /** The failure to report instead of asking the host; undefined if the host may be asked. */
  failureAt(key: string, readAs: ReadAs, now: number): RepoUnavailable | undefined {
    return [this.ofHost.get(readAs), this.ofTree.get(key)].find((one) => one !== undefined && now < one.until)?.failure
  }

  add(key: string, readAs: ReadAs, failure: RepoUnavailable, now: number): void {
    const wait = Math.min(backoffMs.max, Math.max(backoffMs.min, failure.retryAfterMs ?? 0))
    const backoff = { until: now + wait, failure }
    if (failure.retryAfterMs === null) {
      this.ofTree.delete(key)
      this.ofTree.set(key, backoff)
    } else if ((this.ofHost.get(readAs)?.until ?? 0) < backoff.until) this.ofHost.set(readAs, backoff)
    for (const [other, { until }] of this.ofTree) {
      if (until > now) break
      this.ofTree.delete(other)
    }
  }

  delete(key: string): void {
    this.ofTree.delete(key)
  }
}
