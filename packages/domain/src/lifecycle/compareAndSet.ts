/** Writes transitions by compare-and-set: once, or again on the newer row after a lost race. */
import { DateTime, Effect, Option } from "effect"
import { AppliedTransition, isAllowed, type StateMachine } from "./StateMachine.ts"

/** Writes an applied transition if the stored row still has the expected version; otherwise returns false. */
export type CompareAndSet<A, Event> = (applied: AppliedTransition<A, Event>) => Effect.Effect<boolean>

/** Applies a transition to the row that was read; none if it is not allowed or another write came first. */
export const applyIfUnchanged = <A, T extends { readonly _tag: string }, S extends string, Event>(
  machine: StateMachine<A, T, S, Event>,
  write: CompareAndSet<A, Event>,
  value: A,
  transition: T
): Effect.Effect<Option.Option<A>> =>
  Effect.gen(function* () {
    const applied = AppliedTransition.of(machine, value, transition, yield* DateTime.now)
    if (Option.isNone(applied)) return Option.none<A>()
    return (yield* write(applied.value)) ? Option.some(applied.value.after) : Option.none<A>()
  })

/**
 * Applies a transition, and after each lost race applies it to the newer row, until it is written or no longer allowed.
 * It retries without a pause: a lost race means that another writer made progress, and the row was read again.
 */
export const applyToLatest = <A, T extends { readonly _tag: string }, S extends string, Event>(
  machine: StateMachine<A, T, S, Event>,
  write: CompareAndSet<A, Event>,
  read: Effect.Effect<Option.Option<A>>,
  first: A,
  transition: T,
  isWanted: (value: A) => boolean = () => true
): Effect.Effect<Option.Option<A>> =>
  Effect.gen(function* () {
    let value = Option.some(first)
    while (Option.isSome(value) && isWanted(value.value) && isAllowed(machine, value.value, transition)) {
      const written = yield* applyIfUnchanged(machine, write, value.value, transition)
      if (Option.isSome(written)) return written
      value = yield* read
    }
    return Option.none<A>()
  })
