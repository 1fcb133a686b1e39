/** The server's URL and the API key, from flags and environment variables. */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { KeyMissing, UsageRefused } from "./client/Failure.ts"

/** The variable's trimmed value; an empty one counts as not set. */
const text = (name: string) =>
  Config.option(Config.String(name)).pipe(
    Effect.map(Option.map((value) => value.trim())),
    Effect.map(Option.filter((value) => value !== "")),
    Effect.mapError(() => new UsageRefused({ say: `${name} can't be read` }))
  )

const defaultUrl = "http://localhost:3000"

/** The server's URL without a trailing slash. */
export const serverUrl = Effect.fnUntraced(function* (flag: Option.Option<string>) {
  const name = Option.isSome(flag) ? "--url" : "CASTELLAN_URL"
  const given = Option.getOrElse(Option.isSome(flag) ? flag : yield* text("CASTELLAN_URL"), () => defaultUrl)
  const url = URL.parse(given)
  return url !== null && /^https?:$/.test(url.protocol) && url.username === "" && url.search === "" && url.hash === ""
    ? url.href.replace(/\/+$/, "")
    : yield* new UsageRefused({ say: `${name} is "${given}"; it must be a URL such as ${defaultUrl}` })
})

export const apiKey = Effect.gen(function* () {
  const key = yield* text("CASTELLAN_API_KEY")
  if (Option.isNone(key)) return yield* new KeyMissing()
  return /^[\x21-\x7e]+$/.test(key.value)
    ? key.value
    : yield* new UsageRefused({ say: "CASTELLAN_API_KEY must be printable characters without spaces" })
})
