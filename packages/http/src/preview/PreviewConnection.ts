/** A connection to an app as Node's HTTP client wants one. */
import type { PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import type { Port, PortConnection } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { PortClosed, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Cause, Duration, Effect, Exit, type Fiber, Latch, type Scope, Stream } from "effect"
import { Agent, type ClientRequest, type ClientRequestArgs } from "node:http"
import { Duplex } from "node:stream"

/** Why a connection is not there, or no more. */
export type ConnectionFailure = PreviewUnavailable | PortClosed | SandboxUnavailable

/** How a connection to an app is made; it is closed with the scope. */
export type Connect = (name: SandboxName, port: Port) => Effect.Effect<PortConnection, ConnectionFailure, Scope.Scope>

/** Runs what a connection does; all of it ends with the previews. */
export type Fork = (effect: Effect.Effect<void, ConnectionFailure>) => Fiber.Fiber<void, ConnectionFailure>

/** How long a connection is used again and again. Making one tells that the app is used, which has to be told anew. */
const fresh = Duration.seconds(20)

type Done = (error?: Error | null) => void

const errorOf = (cause: Cause.Cause<unknown>): Error => {
  const failure = Cause.squash(cause)
  return failure instanceof Error ? failure : new Error("The connection broke", { cause: failure })
}

/** A connection that is made when it is first wanted; it lives in a scope of its own until it is destroyed. */
export class PreviewConnection extends Duplex {
  /** Whether the app ever sent anything over it. */
  heard = false
  /** Whether no request ever used it. */
  isUnused = true
  /** Whether it was made a short while ago. */
  isFresh = true
  readonly #connect: Effect.Effect<PortConnection, ConnectionFailure, Scope.Scope>
  readonly #fork: Fork
  readonly #room = Latch.makeUnsafe(true)
  #isMute = false
  #made: PortConnection | undefined
  #life: Fiber.Fiber<void, ConnectionFailure> | undefined
  #sending: Fiber.Fiber<void, ConnectionFailure> | undefined
  #resting: Fiber.Fiber<void, ConnectionFailure> | undefined

  constructor(connect: Effect.Effect<PortConnection, ConnectionFailure, Scope.Scope>, fork: Fork) {
    super({ allowHalfOpen: false })
    this.#connect = connect
    this.#fork = fork
    // Node's client listens to a connection most of the time, not all of it.
    this.on("error", () => {})
  }

  /** Whether there ever was a connection. */
  get isMade(): boolean {
    return this.#made !== undefined
  }

  /** Makes the connection if it is not there, and gives what has to be named as its host. */
  ready(use: (host: string) => void): void {
    if (this.destroyed) return
    if (this.#made !== undefined) return use(this.#made.host)
    this.once("made", use)
    this.#life ??= this.#fork(Effect.scoped(this.#live).pipe(Effect.onExit((exit) => this.#over(exit))))
  }

  /** Says no more, and is destroyed once all is said; Node's client asks for it by this name. */
  destroySoon(): void {
    if (this.writableFinished) this.destroy()
    else this.once("finish", () => this.destroy()).end()
  }

  /** Nothing to do: it keeps no process up by itself. */
  ref(): void {}

  /** Destroys it if nobody wants it for so long. */
  rest(atMost: Duration.Duration): void {
    this.#resting = this.#fork(
      Effect.delay(
        Effect.sync(() => void this.destroy()),
        atMost
      )
    )
  }

  /** Somebody wants it again. */
  wake(): void {
    this.#resting?.interruptUnsafe()
    this.#resting = undefined
  }

  get #live() {
    return Effect.flatMap(this.#connect, (made) => {
      this.#made = made
      this.emit("made", made.host)
      return Effect.forkScoped(
        Effect.delay(
          Effect.sync(() => (this.isFresh = false)),
          fresh
        )
      ).pipe(
        Effect.andThen(Stream.runForEach(made.incoming, (bytes) => this.#take(bytes))),
        Effect.andThen(Effect.sync(() => this.push(null))),
        // It may still be written to: its scope is open until it is destroyed.
        Effect.andThen(Effect.never)
      )
    })
  }

  #take(bytes: Uint8Array) {
    return Effect.suspend(() => {
      this.heard = true
      // What nobody has asked for would be read as the answer to what is asked next.
      if (this.#resting !== undefined) return Effect.sync(() => void this.destroy())
      this.#room.closeUnsafe()
      return this.push(bytes) ? Effect.void : this.#room.await
    })
  }

  #over(exit: Exit.Exit<void, ConnectionFailure>) {
    return Effect.sync(() => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) this.destroy(errorOf(exit.cause))
      else this.destroy()
    })
  }

  #send(bytes: Uint8Array, done: Done): void {
    if (this.#isMute) return done()
    this.ready(() => {
      this.#sending = this.#fork(this.#made!.send(bytes))
      this.#sending.addObserver((exit) => {
        // Who no longer listens may have said why: what breaks the connection is that nothing more comes.
        this.#isMute = Exit.isFailure(exit)
        done()
      })
    })
  }

  override _read(): void {
    this.#room.openUnsafe()
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: Done): void {
    this.#send(chunk, done)
  }

  override _writev(chunks: ReadonlyArray<{ readonly chunk: Buffer }>, done: Done): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done)
  }

  override _final(done: Done): void {
    if (this.#made === undefined) done()
    else this.#fork(this.#made.end).addObserver(() => done())
  }

  override _destroy(error: Error | null, done: Done): void {
    for (const fiber of [this.#sending, this.#resting, this.#life]) fiber?.interruptUnsafe()
    done(error)
  }
}

export interface AgentOptions {
  readonly connect: Connect
  readonly fork: Fork
  /** Connections to one port of an app at once; who wants one more waits. */
  readonly atMost: number
  /** How long a connection is kept that nobody uses; each request has one of its own if left out. */
  readonly idle?: Duration.Duration
}

/** Gives requests their connections, by the name of the sandbox as `host` and the port. */
export class PreviewAgent extends Agent {
  readonly #given: AgentOptions

  constructor(given: AgentOptions) {
    super({ keepAlive: given.idle !== undefined, maxSockets: given.atMost })
    this.#given = given
  }

  override createConnection({ host, port }: ClientRequestArgs): Duplex {
    const { connect, fork } = this.#given
    return new PreviewConnection(connect(host as SandboxName, port as Port), fork)
  }

  override keepSocketAlive(socket: Duplex): boolean {
    const { idle } = this.#given
    if (idle === undefined || !(socket instanceof PreviewConnection) || !socket.isFresh) return false
    socket.rest(idle)
    return true
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    super.reuseSocket(socket, request)
    if (socket instanceof PreviewConnection) socket.wake()
  }
}
