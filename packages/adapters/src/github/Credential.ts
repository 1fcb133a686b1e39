import { Redacted } from "effect"

export interface Credential {
  readonly token: Redacted.Redacted<string>
  /** What git sends as its authorization. */
  readonly header: Redacted.Redacted<string>
  /** A text without the token, however it is written in it. */
  readonly scrub: (text: string) => string
}

const base64 = (text: string) => Buffer.from(text).toString("base64")

export const of = (token: Redacted.Redacted<string>): Credential => {
  const value = Redacted.value(token)
  const basic = base64(`x-access-token:${value}`)
  const forms = [value, basic, base64(value)]
  return {
    token,
    header: Redacted.make(`Basic ${basic}`),
    scrub: (text) => forms.reduce((clean, form) => clean.replaceAll(form, "[token]"), text)
  }
}
