/** Faults that a test plans for requests to an emulator. */

/** The requests that a fault applies to. */
export interface RequestFilter {
  /** How many requests the fault applies to; 1 by default. */
  readonly times?: number
  readonly method?: string
  /** A pattern for the path with its query and without the prefix `/api` or `/api/v3`. */
  readonly path?: RegExp
}

/** Plans faults, for tests. */
export interface Faults<Fault> {
  /** Applies a fault to the next matching requests. Faults apply in the order of their plans. */
  readonly plan: (fault: Fault, which?: RequestFilter) => void
  readonly clear: () => void
}

/** The faults as the emulator takes them. */
export interface PlannedFaults<Fault> extends Faults<Fault> {
  /** Takes the fault for a request, of those that `fits` accepts, and counts it as used. */
  readonly take: (method: string, path: string, fits?: (fault: Fault) => boolean) => Fault | undefined
}

/** Whether a request passes the filter. */
export const matches = (which: RequestFilter, method: string, path: string): boolean =>
  (which.method ?? method) === method && (which.path?.test(path) ?? true)

/** Starts without planned faults. */
export const make = <Fault>(): PlannedFaults<Fault> => {
  let planned: Array<{ readonly fault: Fault; readonly which: RequestFilter; left: number }> = []
  return {
    plan: (fault, which = {}) => {
      planned.push({ fault, which, left: which.times ?? 1 })
    },
    clear: () => {
      planned = []
    },
    take: (method, path, fits = () => true) => {
      const found = planned.find(({ fault, left, which }) => left > 0 && matches(which, method, path) && fits(fault))
      if (found !== undefined) found.left--
      return found?.fault
    }
  }
}
