import type { PortConnection } from "@castellan/domain/sandbox/Port.ts"
import type { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Cause, Effect, Queue, type Scope, Stream } from "effect"
import { blankLine, blankLineKept } from "../../Program.ts"

const utf8 = new TextEncoder()
const bytesAsText = new TextDecoder("latin1")

/** A listener in memory: it reads up to a blank line or the end, then sends its text and what it read. */
export class MemoryListener {
  private readonly text: string
  private readonly connections = new Set<() => void>()

  constructor(text: string) {
    this.text = text
  }

  /** Opens a connection, which fails with `closed` once its scope closes or the program ends. */
  connect(host: string, closed: PortClosed): Effect.Effect<PortConnection, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.map(Queue.unbounded<Uint8Array, PortClosed | Cause.Done>(), (answer) => this.open(host, closed, answer)),
      ({ breakOff }) => Effect.sync(breakOff)
    )
  }

  /** Fails all connections, as the end of its program does. */
  close(): void {
    for (const breakOff of this.connections) breakOff()
  }

  private open(host: string, closed: PortClosed, answer: Queue.Queue<Uint8Array, PortClosed | Cause.Done>) {
    const state = { isOpen: true, isSending: true, tail: "" }
    const read: Array<Uint8Array> = []
    const breakOff = () => {
      state.isOpen = false
      this.connections.delete(breakOff)
      Queue.failCauseUnsafe(answer, Cause.fail(closed))
    }
    this.connections.add(breakOff)
    const reply = () => {
      for (const piece of [utf8.encode(this.text), ...read]) Queue.offerUnsafe(answer, piece)
      Queue.endUnsafe(answer)
    }
    const connection: PortConnection = {
      host,
      incoming: Stream.fromQueue(answer),
      send: (bytes) =>
        Effect.suspend(() => {
          if (!state.isOpen || !state.isSending) return Effect.fail(closed)
          read.push(bytes.slice())
          state.tail += bytesAsText.decode(bytes)
          if (blankLine.test(state.tail)) reply()
          state.tail = state.tail.slice(-blankLineKept)
          return Effect.void
        }),
      end: Effect.sync(() => {
        if (state.isOpen && state.isSending) reply()
        state.isSending = false
      })
    }
    return { ...connection, breakOff }
  }
}
