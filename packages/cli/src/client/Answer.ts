/** An answer of the API: what it says, and its text as it came. */
export interface Answer<A> {
  readonly text: string
  readonly json: A
}
