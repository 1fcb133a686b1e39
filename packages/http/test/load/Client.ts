/**
 * A client of several servers that restart: repeats requests under the same idempotency key and records the responses.
 */

/** One request and its response. */
export interface RequestRecord {
  readonly what: string
  /** Milliseconds since the start, and until the response. */
  readonly at: number
  readonly took: number
  /** The status, or `broken` if the connection broke. */
  readonly answer: string
}

export interface ClientRequest {
  readonly what: string
  readonly method: string
  readonly path: string
  readonly body?: unknown
  /** The idempotency key. Without it, only requests that read are repeated. */
  readonly key?: string
}

/**
 * Milliseconds to wait for a response, between two attempts, and until the client gives up. A key that was used on a
 * killed server stays in flight until its lease expires.
 */
const patience = 15_000
const pause = 500
const giveUpAfter = 120_000

export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

export class Client {
  readonly asked: Array<RequestRecord> = []
  /** A request from its first attempt to its final response. */
  readonly done: Array<RequestRecord> = []
  private readonly begun = Date.now()
  private readonly servers: () => ReadonlyArray<string>
  private readonly apiKey: string

  constructor(servers: () => ReadonlyArray<string>, apiKey: string) {
    this.servers = servers
    this.apiKey = apiKey
  }

  /** The final response; undefined if there is none before the client gives up. */
  async ask(wanted: ClientRequest): Promise<any> {
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

  private async once({ body, key, method, path, what }: ClientRequest): Promise<{ answer: string; json?: any }> {
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
