/** What goes wrong between a client and an emulator, on demand. */

/** The requests that a fault befalls. */
export interface Which {
  /** How many requests it befalls; 1 if not said. */
  readonly times?: number
  readonly method?: string
  /** What the path has to match, with its query and without the `/api` or `/api/v3` before all of them. */
  readonly path?: RegExp
}

/** What tests order. */
export interface Faults<Fault> {
  /** Befalls the next requests that it fits; what was planned first comes first. */
  readonly plan: (fault: Fault, which?: Which) => void
  readonly clear: () => void
}

/** What the emulator asks of its faults. */
export interface Planned<Fault> extends Faults<Fault> {
  /** The fault of this request, used up by asking; of those alone that fit it by their nature, if they have one. */
  readonly take: (method: string, path: string, fits?: (fault: Fault) => boolean) => Fault | undefined
}

/** Whether a request is one of these. */
export const befalls = (which: Which, method: string, path: string): boolean =>
  (which.method ?? method) === method && (which.path?.test(path) ?? true)

/** No faults yet. */
export const make = <Fault>(): Planned<Fault> => {
  let planned: Array<{ readonly fault: Fault; readonly which: Which; left: number }> = []
  return {
    plan: (fault, which = {}) => {
      planned.push({ fault, which, left: which.times ?? 1 })
    },
    clear: () => {
      planned = []
    },
    take: (method, path, fits = () => true) => {
      const found = planned.find(({ fault, left, which }) => left > 0 && befalls(which, method, path) && fits(fault))
      if (found !== undefined) found.left--
      return found?.fault
    }
  }
}
