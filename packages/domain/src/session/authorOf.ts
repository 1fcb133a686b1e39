import type { Account, AccountId } from "../identity/Account.ts"
import type { Author } from "../repo/Checkout.ts"

/** A text without the characters that git refuses in an author; null if nothing is left. */
const clean = (text: string | null): string | null => {
  const line = (text ?? "").replaceAll(/[\p{Cc}\p{Cs}<>\s]+/gu, " ").trim()
  return /[^\s.,:;"'\\]/.test(line) ? line : null
}

/** The author of commits in the sandbox of an account's session. */
export const authorOf = (id: AccountId, account: Pick<Account, "email" | "name"> | null): Author => ({
  name: clean(account?.name ?? null) ?? "Castellan",
  email: clean(account?.email ?? null) ?? `${id}@noreply.invalid`
})
