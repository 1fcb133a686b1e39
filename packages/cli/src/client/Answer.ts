/** A response of the API: its JSON, and its text as it came. */
export interface Answer<A> {
  readonly text: string
  readonly json: A
}
