/** The character that starts a terminal's control sequence. */
const escape = String.fromCharCode(27)

const sequences = new RegExp(`${escape}\\[[0-9;?]*[A-Za-z]`, "g")

/** Removes ANSI control sequences, such as colors, from a text. */
export const stripAnsi = (text: string): string => text.replaceAll(sequences, "")
