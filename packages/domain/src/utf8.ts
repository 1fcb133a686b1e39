// Every runtime has these two. They are declared here because the domain is compiled without the types of Node and the DOM.
declare const TextEncoder: new () => { readonly encode: (text: string) => Uint8Array }
declare const TextDecoder: new () => { readonly decode: (bytes: Uint8Array) => string }

/** Text to UTF-8. */
export const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

/** UTF-8 to text. Invalid bytes become U+FFFD. */
export const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** The number of bytes up to the end of the last complete character. */
export const wholeCharacters = (bytes: Uint8Array): number => {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!
    if (byte < 0x80) return bytes.length
    if (byte >= 0xc0) {
      const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
      return back < needs ? bytes.length - back : bytes.length
    }
  }
  return bytes.length
}
