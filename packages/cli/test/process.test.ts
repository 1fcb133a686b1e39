import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { killed, listening, onPostgres } from "../../http/test/server/serverProcess.ts"

const launcher = fileURLToPath(new URL("../bin/castellan.mjs", import.meta.url))

interface Server {
  readonly url: string
  readonly key: string | undefined
}

interface Process {
  readonly child: ChildProcess
  readonly said: { stdout: string; stderr: string }
  /** Resolves once standard output contains the text. */
  readonly prints: (text: string) => Promise<void>
}

const begin = ({ key = "", url }: Server, program: string, args: ReadonlyArray<string>, stdin = ""): Process => {
  const { PATH = "" } = process.env
  const child = spawn(program, args, { env: { PATH, CASTELLAN_URL: url, CASTELLAN_API_KEY: key } })
  const said = { stdout: "", stderr: "" }
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (chunk: string) => (said[name] += chunk))
  }
  child.stdin.end(stdin)
  const prints = async (text: string) => {
    while (!said.stdout.includes(text)) await once(child.stdout, "data")
  }
  return { child, said, prints }
}

const castellan = (server: Server, ...args: ReadonlyArray<string>) =>
  begin(server, process.execPath, [launcher, ...args])

const ended = ({ child, said }: Process) =>
  Effect.promise(async () => {
    if (child.exitCode === null && child.signalCode === null) await once(child, "close")
    return { exit: child.exitCode, ...said }
  })

describe("The command line as a process", () => {
  it.live("runs a command in a real sandbox, and exits with the command's code", () =>
    Effect.gen(function* () {
      const server = yield* listening(yield* onPostgres)
      const script = "echo out; echo err >&2; exit 3"
      const said = yield* ended(castellan(server, "sandboxes", "create", "--", "sh", "-c", script))
      assert.deepStrictEqual([said.exit, said.stdout], [3, "out\n"])
      assert.match(said.stderr, /^castellan: sbx_\w+ runs run_\w+\nerr\n$/)

      const long = 'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done'
      const pipe = '"$0" "$1" sandboxes create -- sh -c "$2" | head -n 2'
      const cut = yield* ended(begin(server, "sh", ["-c", pipe, process.execPath, launcher, long]))
      assert.deepStrictEqual([cut.exit, cut.stdout], [0, "line 0\nline 1\n"])
      assert.match(cut.stderr, /^castellan: sbx_\w+ runs run_\w+\n$/)
    }).pipe(Effect.scoped)
  )

  it.live("follows a command across a restart of the server, and leaves it running on Ctrl-C", () =>
    Effect.gen(function* () {
      const environment = yield* onPostgres
      const first = yield* listening(environment)
      const script = "echo one; sleep 1; echo two; sleep 1; echo three; sleep 600"
      const following = castellan(first, "sandboxes", "create", "--", "sh", "-c", script)
      yield* Effect.promise(() => following.prints("one\n"))
      yield* killed(first)
      const second = yield* listening({ ...environment, PORT: new URL(first.url).port })
      yield* Effect.promise(() => following.prints("three\n"))
      following.child.kill("SIGINT")
      const said = yield* ended(following)
      assert.deepStrictEqual([said.exit, said.stdout], [130, "one\ntwo\nthree\n"])
      const [, run] = /(run_\w+) is still running; follow it with: castellan runs logs -f \1\n$/.exec(said.stderr)!
      const server = { url: second.url, key: first.key }
      const shown = yield* ended(castellan(server, "runs", "get", run!))
      assert.match(shown.stdout, /^status +EXECUTING$/m)
      const canceled = yield* ended(castellan(server, "runs", "cancel", run!))
      assert.deepStrictEqual([canceled.exit, canceled.stdout], [0, `${run} CANCELED\n`])
    }).pipe(Effect.scoped)
  )
})
