/** Turns a service's methods into promises that are bound to an account. Their types are derived from the service. */
import type { AccountForbidden, AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { CurrentCredential, InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { type Context, Effect, Option, Stream } from "effect"

type OptionalKeys<T> =
  T extends ReadonlyArray<unknown>
    ? never
    : T extends object
      ? { [K in keyof T]-?: T[K] extends Option.Option<any> ? K : never }[keyof T]
      : never

/** A parameter as the caller passes it: an option may be left out, and a stream may be bytes or an async iterable. */
export type CallerInput<T> =
  T extends Option.Option<infer A>
    ? A | undefined
    : T extends Stream.Stream<infer A, any, any>
      ? A | AsyncIterable<A>
      : T extends object
        ? [OptionalKeys<T>] extends [never]
          ? T
          : Omit<T, OptionalKeys<T>> & { readonly [K in OptionalKeys<T>]?: CallerInput<T[K]> }
        : T

/** A result as the caller receives it: an absent option is undefined. */
export type CallerResult<T> =
  T extends Option.Option<infer A>
    ? A | undefined
    : T extends object
      ? [OptionalKeys<T>] extends [never]
        ? T
        : { readonly [K in keyof T]: T[K] extends Option.Option<infer A> ? A | undefined : T[K] }
      : T

/** A last parameter that is an option may be left out. */
type CallerInputs<Args extends ReadonlyArray<unknown>> = Args extends [...infer Front, Option.Option<infer Last>]
  ? [...{ [K in keyof Front]: CallerInput<Front[K]> }, Last?]
  : { [K in keyof Args]: CallerInput<Args[K]> }

type Result<T> =
  T extends Effect.Effect<infer A, any, any>
    ? Promise<CallerResult<A>>
    : T extends Stream.Stream<infer A, any, any>
      ? AsyncIterable<A>
      : never

/** A method of a service as its caller sees it: without the scope, which is the account's. */
type Method<F> = F extends (...args: infer Args) => infer R
  ? (...args: CallerInputs<Args extends [AccountScope, ...infer Rest] ? Rest : Args>) => Result<R>
  : () => Result<F>

/**
 * How a method is called: with the account's scope first (`scoped`, or the number of parameters before an optional last
 * one), without a scope (`plain`), or not at all, since it is an effect.
 */
export type CallingConvention<F> = F extends (...args: infer Args) => unknown
  ? Args extends [AccountScope, ...infer Rest]
    ? Rest extends [...infer Front, Option.Option<unknown>]
      ? Front["length"]
      : "scoped"
    : "plain"
  : "effect"

/** The named methods of a service, as promises. */
export type Promised<S, Names extends keyof S> = { readonly [K in Names]: Method<S[K]> }

/** The account that calls, its access checks, and the services that calls need. */
export interface Caller<R> {
  readonly scope: AccountScope
  /** Fails if the actor may no longer act for the scope's account. Run before each call. */
  readonly check: Effect.Effect<unknown, AccountForbidden, R | CurrentActor>
  /** Fails as soon as the actor loses access. Interrupts streams. */
  readonly lost: Effect.Effect<never, AccountForbidden | InvalidCredential, R | CurrentActor | CurrentCredential>
  readonly services: Context.Context<R | CurrentActor | CurrentCredential>
}

/** Optional fields of parameters. The type of `promised` fails to compile if one is missing in `optional`. */
type FieldsOf<F> = F extends (...args: infer Args) => unknown
  ? { [K in keyof Args]-?: Args[K] extends Option.Option<any> ? never : OptionalKeys<Args[K]> }[number]
  : never
export type OptionalFields<S, Names extends keyof S> = { [K in Names]: FieldsOf<S[K]> }[Names]
const optional = ["nonce", "work"] as const

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype

const isIterable = (value: unknown): value is AsyncIterable<unknown> =>
  typeof value === "object" && value !== null && Symbol.asyncIterator in value

const asOption = (value: unknown) => (Option.isOption(value) ? value : Option.fromUndefinedOr(value))

/** A prototype with `none` for every optional field, so that fields that the caller left out read as absent. */
const absent = Object.fromEntries(optional.map((name) => [name, Option.none()]))

const toServiceInput = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return Stream.make(value)
  if (isIterable(value) && !Stream.isStream(value)) return Stream.fromAsyncIterable(value, (cause) => cause)
  if (!isPlain(value)) return value
  const named = optional.filter((name) => name in value).map((name) => [name, asOption(value[name])])
  return Object.assign(Object.create(absent), value, Object.fromEntries(named))
}

const toCallerResult = (value: unknown): unknown => {
  if (Option.isOption(value)) return Option.getOrUndefined(value)
  if (!isPlain(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [name, Option.isOption(one) ? Option.getOrUndefined(one) : one])
  )
}

const invoke = (how: unknown, method: unknown, scope: AccountScope, args: ReadonlyArray<unknown>): unknown => {
  if (how === "effect") return method
  const call = method as (...args: ReadonlyArray<unknown>) => unknown
  const all = args.map(toServiceInput)
  if (typeof how === "number") all[how] = asOption(args[how])
  return how === "plain" ? call(...all) : call(scope, ...all)
}

/** The service's methods for this caller. Promises reject with instances of the error classes. */
export const promised = <S extends object, const Names extends keyof S, R>(
  service: S,
  how: { readonly [K in Names]: CallingConvention<S[K]> } & ([OptionalFields<S, Names>] extends [
    (typeof optional)[number]
  ]
    ? unknown
    : never),
  { check, lost, scope, services }: Caller<R>
): Promised<S, Names> => {
  const run = (result: unknown) =>
    Stream.isStream(result)
      ? Stream.toAsyncIterableWith(
          Stream.unwrap(Effect.as(check, result as Stream.Stream<unknown>)).pipe(Stream.interruptWhen(lost)),
          services
        )
      : Effect.runPromiseWith(services)(
          Effect.andThen(check, Effect.map(result as Effect.Effect<unknown>, toCallerResult))
        )
  const entries = Object.entries(how).map(([name, called]) => [
    name,
    (...args: ReadonlyArray<unknown>) => run(invoke(called, service[name as keyof S], scope, args))
  ])
  return Object.fromEntries(entries) as Promised<S, Names>
}
