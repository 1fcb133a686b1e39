/** Connections to apps as sockets of Node's HTTP client, and the agent that pools them. */
import type { PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import type { Port, PortConnection } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { PortClosed, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Cause, Duration, Effect, Exit, type Fiber, Latch, type Scope, Stream } from "effect"
import { Agent, type ClientRequest, type ClientRequestArgs } from "node:http"
import { Duplex } from "node:stream"

/** Why a connection could not be made, or broke. */
export type ConnectionFailure = PreviewUnavailable | PortClosed | SandboxUnavailable

/** Connects to an app. The connection is closed with the scope. */
export type Connect = (name: SandboxName, port: Port) => Effect.Effect<PortConnection, ConnectionFailure, Scope.Scope>

/** Forks a fiber that is interrupted when the proxy closes. */
export type Fork = (effect: Effect.Effect<void, ConnectionFailure>) => Fiber.Fiber<void, ConnectionFailure>

/** How long a connection is reused. Connecting records that the app is used, so it must happen again from time to time. */
const maxReuse = Duration.seconds(20)

type Callback = (error?: Error | null) => void

const errorOf = (cause: Cause.Cause<unknown>): Error => {
  const failure = Cause.squash(cause)
  return failure instanceof Error ? failure : new Error("The connection broke", { cause: failure })
}

/** A connection that connects on first use. Its scope is closed when it is destroyed. */
export class PreviewConnection extends Duplex {
  /** Whether the app has sent any bytes. */
  hasReceived = false
  /** Whether no request has used it yet. */
  isUnused = true
  /** Whether further requests may use it. */
  isReusable = true
  readonly #connect: Effect.Effect<PortConnection, ConnectionFailure, Scope.Scope>
  readonly #fork: Fork
  readonly #canPush = Latch.makeUnsafe(true)
  #isWriteBroken = false
  #connection: PortConnection | undefined
  #lifetime: Fiber.Fiber<void, ConnectionFailure> | undefined
  #write: Fiber.Fiber<void, ConnectionFailure> | undefined
  #idleTimer: Fiber.Fiber<void, ConnectionFailure> | undefined

  constructor(connect: Effect.Effect<PortConnection, ConnectionFailure, Scope.Scope>, fork: Fork) {
    super({ allowHalfOpen: false })
    this.#connect = connect
    this.#fork = fork
    // Node's client does not listen for errors all the time, and an unhandled one would end the process.
    this.on("error", () => {})
  }

  /** Whether it was ever connected. */
  get isConnected(): boolean {
    return this.#connection !== undefined
  }

  /** Connects if it is not connected, then calls back with the Host that requests must name. */
  whenConnected(use: (host: string) => void): void {
    if (this.destroyed) return
    if (this.#connection !== undefined) return use(this.#connection.host)
    this.once("connected", use)
    this.#lifetime ??= this.#fork(Effect.scoped(this.#live).pipe(Effect.onExit((exit) => this.#onExit(exit))))
  }

  /** Ends it, and destroys it once all is written. Node's client calls it. */
  destroySoon(): void {
    if (this.writableFinished) this.destroy()
    else this.once("finish", () => this.destroy()).end()
  }

  /** Node's client calls it. A fiber keeps no process alive, so there is nothing to do. */
  ref(): void {}

  /** Destroys it after this time unless `stopIdle` is called. */
  startIdle(timeout: Duration.Duration): void {
    this.#idleTimer = this.#fork(
      Effect.delay(
        Effect.sync(() => void this.destroy()),
        timeout
      )
    )
  }

  stopIdle(): void {
    this.#idleTimer?.interruptUnsafe()
    this.#idleTimer = undefined
  }

  get #live() {
    return Effect.flatMap(this.#connect, (connection) => {
      this.#connection = connection
      this.emit("connected", connection.host)
      return Effect.forkScoped(
        Effect.delay(
          Effect.sync(() => (this.isReusable = false)),
          maxReuse
        )
      ).pipe(
        Effect.andThen(Stream.runForEach(connection.incoming, (bytes) => this.#receive(bytes))),
        Effect.andThen(Effect.sync(() => this.push(null))),
        // It can still be written to: its scope stays open until it is destroyed.
        Effect.andThen(Effect.never)
      )
    })
  }

  #receive(bytes: Uint8Array) {
    return Effect.suspend(() => {
      this.hasReceived = true
      // Bytes without a request would be read as the response to the next one.
      if (this.#idleTimer !== undefined) return Effect.sync(() => void this.destroy())
      this.#canPush.closeUnsafe()
      return this.push(bytes) ? Effect.void : this.#canPush.await
    })
  }

  #onExit(exit: Exit.Exit<void, ConnectionFailure>) {
    return Effect.sync(() => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) this.destroy(errorOf(exit.cause))
      else this.destroy()
    })
  }

  #send(bytes: Uint8Array, callback: Callback): void {
    if (this.#isWriteBroken) return callback()
    this.whenConnected(() => {
      this.#write = this.#fork(this.#connection!.send(bytes))
      this.#write.addObserver((exit) => {
        // An app that stopped reading may have sent a response: only the end of what it sends ends the connection.
        this.#isWriteBroken = Exit.isFailure(exit)
        callback()
      })
    })
  }

  override _read(): void {
    this.#canPush.openUnsafe()
  }

  override _write(chunk: Buffer, _: BufferEncoding, callback: Callback): void {
    this.#send(chunk, callback)
  }

  override _writev(chunks: ReadonlyArray<{ readonly chunk: Buffer }>, callback: Callback): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), callback)
  }

  override _final(callback: Callback): void {
    if (this.#connection === undefined) callback()
    else this.#fork(this.#connection.end).addObserver(() => callback())
  }

  override _destroy(error: Error | null, callback: Callback): void {
    for (const fiber of [this.#write, this.#idleTimer, this.#lifetime]) fiber?.interruptUnsafe()
    callback(error)
  }
}

export interface AgentOptions {
  readonly connect: Connect
  readonly fork: Fork
  /** Connections to one port of an app at a time; further requests wait. */
  readonly maxConnections: number
  /** How long an unused connection is kept. Without it, each request gets a connection of its own. */
  readonly idle?: Duration.Duration
}

/** Connects requests to apps: `host` is the name of the sandbox. */
export class PreviewAgent extends Agent {
  readonly #options: AgentOptions

  constructor(options: AgentOptions) {
    super({ keepAlive: options.idle !== undefined, maxSockets: options.maxConnections })
    this.#options = options
  }

  override createConnection({ host, port }: ClientRequestArgs): Duplex {
    const { connect, fork } = this.#options
    return new PreviewConnection(connect(host as SandboxName, port as Port), fork)
  }

  override keepSocketAlive(socket: Duplex): boolean {
    const { idle } = this.#options
    if (idle === undefined || !(socket instanceof PreviewConnection) || !socket.isReusable) return false
    socket.startIdle(idle)
    return true
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    super.reuseSocket(socket, request)
    if (socket instanceof PreviewConnection) socket.stopIdle()
  }
}
