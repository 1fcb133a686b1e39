/** What begins a terminal's colours and the like. */
const escape = String.fromCharCode(27)

const sequences = new RegExp(`${escape}\\[[0-9;?]*[A-Za-z]`, "g")

/** A text without what only a terminal understands of it. */
export const stripAnsi = (text: string): string => text.replaceAll(sequences, "")
