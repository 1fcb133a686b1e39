/** A client of several servers that come and go: asks again under the same key, as clients are told to, and keeps count. */

/** One request, as it was answered. */
export interface Asked {
  readonly what: string
  /** Milliseconds since the start, and until the answer. */
  readonly at: number
  readonly took: number
  /** The status, or `broken` where the connection was. */
  readonly answer: string
}

export interface Wanted {
  readonly what: string
  readonly method: string
  readonly path: string
  readonly body?: unknown
  /** What makes asking repeatable; without it only what reads is asked again. */
  readonly key?: string
}

/**
 * Milliseconds that an answer is waited for, and between two tries, and after which it is given up: a key that was used at
 * a server which was killed is in flight until its lease lapses.
 */
const patience = 15_000
const pause = 500
const giveUpAfter = 120_000

export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

export class Client {
  readonly asked: Array<Asked> = []
  /** What was asked for, from its first try to the answer that counts. */
  readonly done: Array<Asked> = []
  private readonly begun = Date.now()
  private readonly servers: () => ReadonlyArray<string>
  private readonly apiKey: string

  constructor(servers: () => ReadonlyArray<string>, apiKey: string) {
    this.servers = servers
    this.apiKey = apiKey
  }

  /** The answer, tried until it is one; undefined where nobody gave any. */
  async ask(wanted: Wanted): Promise<any> {
    const first = Date.now()
    while (Date.now() - first < giveUpAfter) {
      const { answer, json } = await this.once(wanted)
      const isOver = answer !== "broken" && answer !== "409" && Number(answer) < 500
      if (isOver || (wanted.key === undefined && wanted.method !== "GET" && wanted.method !== "DELETE")) {
        this.done.push({ what: wanted.what, at: first - this.begun, took: Date.now() - first, answer })
        return Number(answer) < 300 ? json : undefined
      }
      await sleep(json?.retryAfterMs ?? pause)
    }
    this.done.push({ what: wanted.what, at: first - this.begun, took: Date.now() - first, answer: "given up" })
    return undefined
  }

  private async once({ body, key, method, path, what }: Wanted): Promise<{ answer: string; json?: any }> {
    const all = this.servers()
    const at = Date.now()
    const tell = (answer: string) => this.asked.push({ what, at: at - this.begun, took: Date.now() - at, answer })
    try {
      const response = await fetch(`${all[Math.floor(Math.random() * all.length)]}${path}`, {
        method,
        headers: {
          "x-api-key": this.apiKey,
          "content-type": "application/json",
          ...(key === undefined ? {} : { "idempotency-key": key })
        },
        signal: AbortSignal.timeout(patience),
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      const text = await response.text()
      tell(`${response.status}`)
      return { answer: `${response.status}`, json: JSON.parse(text) }
    } catch {
      tell("broken")
      return { answer: "broken" }
    }
  }
}
