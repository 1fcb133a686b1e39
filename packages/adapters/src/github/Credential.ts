/** A GitHub token in the forms that requests use, and a way to remove it from text. */
import { Redacted } from "effect"

export interface Credential {
  readonly token: Redacted.Redacted<string>
  /** The value of git's `Authorization` header. */
  readonly header: Redacted.Redacted<string>
  /** Replaces the token in a text, in plain or base64 form. */
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
