/** State machines whose transitions are declared in a table and can be applied in one way only. */
import { type DateTime, Option } from "effect"

/** For each transition, the states that it may start from, each with the states that it may lead to. */
export type TransitionTable<Tag extends string, State extends string> = {
  readonly [T in Tag]: { readonly [From in State]?: ReadonlyArray<State> }
}

export interface StateMachine<A, Transition extends { readonly _tag: string }, State extends string, Event> {
  readonly allowedTransitions: TransitionTable<Transition["_tag"], State>
  readonly stateOf: (value: A) => State
  readonly versionOf: (value: A) => number
  /** Whether the transition is allowed by other fields than the state. Always, if left out. */
  readonly accepts?: (value: A, transition: Transition) => boolean
  /** The value after the transition. It must carry the given version, and be in a state that the table names. */
  readonly change: (value: A, transition: Transition, at: { readonly now: DateTime.Utc; readonly version: number }) => A
  /** The event that the transition emits; null if it emits none. */
  readonly eventFor: (before: A, after: A, transition: Transition, now: DateTime.Utc) => Event | null
}

/** Whether the machine allows the transition in the value's state. */
export const isAllowed = <A, T extends { readonly _tag: string }, S extends string, E>(
  machine: StateMachine<A, T, S, E>,
  value: A,
  transition: T
): boolean => {
  const row = machine.allowedTransitions[transition._tag as T["_tag"]]
  return row[machine.stateOf(value)] !== undefined && (machine.accepts?.(value, transition) ?? true)
}

/** An allowed transition of a value, ready for a store's compare-and-set. Only `AppliedTransition.of` creates one. */
export class AppliedTransition<A, Event> {
  /** The value after the transition, one version on. */
  readonly after: A
  /** The event to write in the same statement; null if there is none. */
  readonly event: Event | null
  /** The version that the stored row must have; otherwise the write is refused. */
  readonly expectedVersion: number
  readonly #applied = true

  private constructor(after: A, event: Event | null, expectedVersion: number) {
    this.after = after
    this.event = event
    this.expectedVersion = expectedVersion
  }

  /** Applies a transition to a value; none if the machine does not allow it. */
  static readonly of = <A, T extends { readonly _tag: string }, S extends string, Event>(
    machine: StateMachine<A, T, S, Event>,
    before: A,
    transition: T,
    now: DateTime.Utc
  ): Option.Option<AppliedTransition<A, Event>> => {
    if (!isAllowed(machine, before, transition)) return Option.none()
    const expected = machine.versionOf(before)
    const after = machine.change(before, transition, { now, version: expected + 1 })
    const targets = machine.allowedTransitions[transition._tag as T["_tag"]][machine.stateOf(before)]
    if (!targets?.includes(machine.stateOf(after)) || machine.versionOf(after) !== expected + 1) {
      throw new Error(`${transition._tag} from ${machine.stateOf(before)} led to ${machine.stateOf(after)}`)
    }
    return Option.some(new AppliedTransition(after, machine.eventFor(before, after, transition, now), expected))
  }

  /** Whether `AppliedTransition.of` made it. */
  get isApplied(): boolean {
    return this.#applied
  }
}
