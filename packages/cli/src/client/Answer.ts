/** A response of the API: its JSON and its original text. */
export interface Answer<A> {
  readonly text: string
  readonly json: A
}
