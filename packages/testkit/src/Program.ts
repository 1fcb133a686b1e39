/** Small programs for the sandboxes of every provider: a shell script, or steps that the in-memory provider interprets. */
import { Data } from "effect"

export type Step = Data.TaggedEnum<{
  Print: { readonly text: string; readonly to: "stdout" | "stderr" }
  /** Prints `lines` lines of `length` bytes each. */
  Flood: { readonly lines: number; readonly length: number }
  PrintVariable: { readonly name: string }
  PrintDirectory: {}
  PrintFile: { readonly path: string }
  /** Appends text to a file, and creates the file if it is missing. */
  Append: { readonly path: string; readonly text: string }
  /** Creates a symbolic link at the path. */
  Link: { readonly path: string; readonly target: string }
  Sleep: { readonly millis: number }
  /** Leaves a process behind, in its own session, that holds the output streams open and appends to a file for ever. */
  Leave: { readonly path: string }
  /**
   * Listens on a port of the loopback for ever. It reads each connection up to a blank line or its end, and then sends
   * the text and the bytes that it read.
   */
  Listen: { readonly port: number; readonly text: string }
  Exit: { readonly code: number }
}>
export const Step = Data.taggedEnum<Step>()

export interface Vector {
  readonly command: string
  readonly args: ReadonlyArray<string>
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

/** The blank line that ends a request. */
export const blankLine = /\r?\n\r?\n/

/** How many characters at the end of a chunk may belong to a blank line that the next chunk completes. */
export const blankLineKept = 3

const listen = `
const [port, text] = process.argv.slice(1)
const server = require("node:net").createServer({ allowHalfOpen: true }, (socket) => {
  const read = []
  let tail = ""
  let over = false
  const answer = () => {
    if (over) return
    over = true
    socket.write(text)
    socket.end(Buffer.concat(read))
  }
  socket.on("error", () => socket.destroy()).on("end", answer).on("data", (bytes) => {
    if (over) return
    read.push(bytes)
    tail += bytes.toString("latin1")
    if (${blankLine}.test(tail)) answer()
    tail = tail.slice(-${blankLineKept})
  })
})
server.listen(Number(port), "127.0.0.1")
`

const line = (step: Step): string => {
  switch (step._tag) {
    case "Print":
      return `printf %s ${quoted(step.text)}${step.to === "stderr" ? " >&2" : ""}`
    case "Flood":
      return `yes ${"x".repeat(step.length - 1)} | head -n ${step.lines}`
    case "PrintVariable":
      return `printf %s "$${step.name}"`
    case "PrintDirectory":
      return 'printf %s "$(pwd)"'
    case "PrintFile":
      return `cat -- ${quoted(step.path)}`
    case "Append":
      return `printf %s ${quoted(step.text)} >> ${quoted(step.path)}`
    case "Link":
      return `ln -s -- ${quoted(step.target)} ${quoted(step.path)}`
    case "Sleep":
      return `sleep ${step.millis / 1000}`
    case "Leave":
      return `setsid sh -c 'while :; do printf x >> "$0"; sleep 0.02; done' ${quoted(step.path)} &`
    case "Listen":
      return `node -e ${quoted(listen)} ${step.port} ${quoted(step.text)}`
    case "Exit":
      return `exit ${step.code}`
  }
}

/** Compiles steps for a provider whose sandboxes have a shell. */
export const inShell = (...steps: ReadonlyArray<Step>): Vector => ({
  command: "sh",
  args: ["-c", steps.map(line).join("\n")]
})

/** The program of the in-memory provider that interprets steps; its argument is the steps as JSON. */
export const stepper = "steps"

/** Compiles steps for the in-memory provider. */
export const asSteps = (...steps: ReadonlyArray<Step>): Vector => ({ command: stepper, args: [JSON.stringify(steps)] })

/** Turns steps into a program and arguments that a provider can run. */
export type Compile = (...steps: ReadonlyArray<Step>) => Vector
