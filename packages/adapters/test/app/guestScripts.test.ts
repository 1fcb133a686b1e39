import { applyFiles } from "@castellan/domain/app/guest/applyFiles.ts"
import { GuestScripts } from "@castellan/domain/app/guest/GuestScripts.ts"
import { limits } from "@castellan/domain/app/guest/listFiles.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { stdoutOf, sh } from "../local/sandboxes.ts"
import { apply, compilingServer, port, project, world } from "./project.ts"

const answers = (name: SandboxName) =>
  Effect.flatMap(GuestScripts, (guest) => guest.awaitAnswer(name, port, Duration.seconds(20)))

/** The id of the process that answers. */
const answering = (name: SandboxName) =>
  stdoutOf(name, `node -e 'fetch("http://127.0.0.1:5173").then((one) => one.text()).then((pid) => console.log(pid))'`)

layer(world, { excludeTestServices: true, timeout: "60 seconds" })("Guest scripts", (it) => {
  it.effect("supervise one dev server and restart it when it exits", () =>
    Effect.gen(function* () {
      const { name, sandbox } = yield* project()
      const guest = yield* GuestScripts
      for (let n = 0; n < 3; n++) yield* guest.serve(sandbox, port)
      assert.isTrue(Option.isSome(yield* answers(name)))
      assert.strictEqual(yield* stdoutOf(name, "pgrep -cf '[v]ite.js --host'"), "1")
      const first = yield* answering(name)
      yield* sh(name, `kill -9 ${first}`)
      assert.isTrue(Option.isSome(yield* answers(name)))
      assert.notStrictEqual(yield* answering(name), first)
    })
  )

  it.effect("start another supervisor after the first was killed", () =>
    Effect.gen(function* () {
      const { name, sandbox } = yield* project()
      const guest = yield* GuestScripts
      yield* guest.serve(sandbox, port)
      yield* answers(name)
      yield* sh(name, "pkill -9 node; sleep 0.2")
      yield* guest.serve(sandbox, port)
      assert.isTrue(Option.isSome(yield* answers(name)))
    })
  )

  it.effect("replace a dev server that hangs on request", () =>
    Effect.gen(function* () {
      const { name, sandbox } = yield* project({ "vite.config.ts": "while (true) {}" })
      const guest = yield* GuestScripts
      yield* guest.serve(sandbox, port)
      assert.isTrue(Option.isNone(yield* guest.awaitAnswer(name, port, Duration.seconds(1))))
      yield* apply(name, { "vite.config.ts": "" })
      yield* guest.restart(sandbox, port)
      assert.isTrue(Option.isSome(yield* answers(name)))
      assert.strictEqual(yield* stdoutOf(name, "pgrep -cf '[v]ite.js --host'"), "1")
    })
  )

  it.effect("start a dev server that failed as soon as the broken configuration is fixed", () =>
    Effect.gen(function* () {
      const { name, sandbox } = yield* project({ "vite.config.ts": "throw 1" })
      const guest = yield* GuestScripts
      yield* guest.serve(sandbox, port)
      assert.isTrue(Option.isNone(yield* guest.awaitAnswer(name, port, Duration.seconds(2))))
      const { server } = yield* guest.diagnose(name, port)
      assert.deepStrictEqual([server.status, server.said], [null, "failed to load config\n"])
      yield* apply(name, { "vite.config.ts": "" })
      assert.isTrue(Option.isSome(yield* guest.awaitAnswer(name, port, Duration.seconds(2))))
    })
  )

  it.effect("compile the changed modules of the page and report errors with their files", () =>
    Effect.gen(function* () {
      const good = { "src/main.ts": 'import "./a.ts"\n', "src/a.ts": "1", "index.html": "" }
      const { name, sandbox } = yield* project({ ...compilingServer, ...good })
      const guest = yield* GuestScripts
      yield* guest.serve(sandbox, port)
      yield* answers(name)
      const changed = Effect.fnUntraced(function* (files: Readonly<Record<string, string>>) {
        yield* apply(name, files)
        return (yield* guest.compile(name, port, Object.keys(files))).errors
      })
      assert.deepStrictEqual(yield* changed({ "src/a.ts": "2" }), [])
      const broken = [{ file: "src/a.ts", message: "line 7: Unexpected token in src/a.ts" }]
      assert.deepStrictEqual(yield* changed({ "src/a.ts": "{{{" }), broken)
      assert.deepStrictEqual(yield* changed({ "README.md": "{{{" }), broken)
      assert.deepStrictEqual(yield* changed({ "src/a.ts": "3" }), [])
      assert.deepStrictEqual(yield* changed({ "src/unused.ts": "{{{", "src/fine.ts": "4" }), [
        { file: "src/unused.ts", message: "Unexpected token" }
      ])
    })
  )

  it.effect("write files atomically, create their directories and keep their modes", () =>
    Effect.gen(function* () {
      const { name } = yield* project({ "run.sh": "old" })
      yield* sh(name, "chmod 755 app/run.sh")
      const done = yield* apply(name, { "run.sh": "new", "a/b/c d.ts": "déep\n", "a/b/e.ts": "" })
      assert.deepStrictEqual(done, { applied: ["run.sh", "a/b/c d.ts", "a/b/e.ts"], failed: [] })
      assert.strictEqual(
        yield* stdoutOf(name, "cat app/run.sh 'app/a/b/c d.ts'; stat -c %a app/run.sh"),
        "newdéep\n755"
      )
      assert.strictEqual(yield* stdoutOf(name, "ls -A /tmp | grep -c castellan; ls -A app/node_modules"), "0\nvite")
    })
  )

  it.effect("write nothing if a path leads out of the project or cannot be a file", () =>
    Effect.gen(function* () {
      const { name } = yield* project()
      yield* sh(
        name,
        "mkdir outside app/inner; cd app; ln -s ../outside out; ln -s /tmp tmp; ln -s inner within; ln -s no where; " +
          "echo theirs > ../theirs; ln -s ../theirs theirs.ts; ln -s no lost.ts"
      )
      for (const [path, reason] of [
        ["out/x.ts", "It leads out of the project"],
        ["tmp/x.ts", "It leads out of the project"],
        ["theirs.ts", "It leads out of the project"],
        ["where/x.ts", "A link on the way leads nowhere"],
        ["lost.ts", "A link on the way leads nowhere"],
        ["within", "A directory has that name"],
        ["package.json/x.ts", "A file is where a directory would have to be"],
        ["inner", "A directory has that name"],
        [`${"x".repeat(250)}/${"ö".repeat(127)}`, undefined]
      ] as const) {
        const { applied, failed } = yield* apply(name, { "good.ts": "x", [path]: "x" })
        if (reason === undefined) assert.deepStrictEqual([applied.length, failed], [2, []])
        else assert.deepStrictEqual({ applied, failed }, { applied: [], failed: [{ path, reason }] })
        assert.strictEqual(
          yield* stdoutOf(name, "rm app/good.ts 2> /dev/null && echo written"),
          reason ? "" : "written"
        )
      }
      assert.strictEqual(yield* stdoutOf(name, "ls -A outside"), "")
      assert.deepStrictEqual((yield* apply(name, { "within/x.ts": "in" })).applied, ["within/x.ts"])
      assert.strictEqual(yield* stdoutOf(name, "cat app/inner/x.ts"), "in")
    })
  )

  it.effect("write through a link within the project and keep the link", () =>
    Effect.gen(function* () {
      const { name } = yield* project()
      yield* sh(
        name,
        "cd app; mkdir inner; echo old > inner/file.ts; chmod 600 inner/file.ts; ln -s inner/file.ts link.ts"
      )
      assert.deepStrictEqual((yield* apply(name, { "link.ts": "new" })).applied, ["link.ts"])
      assert.strictEqual(
        yield* stdoutOf(name, "cat app/inner/file.ts; stat -c %a app/inner/file.ts; readlink app/link.ts"),
        "new600\ninner/file.ts"
      )
    })
  )

  it.effect("reject a file that is also the directory of another file", () =>
    Effect.gen(function* () {
      const { name } = yield* project()
      const { applied, failed } = yield* apply(name, { "a/b": "x", a: "x" })
      assert.deepStrictEqual([applied, failed.map(({ path }) => path)], [[], ["a/b"]])
    })
  )

  it.effect("write nothing if the disk is full, and remove the staging directories of killed processes", () =>
    Effect.gen(function* () {
      const { name } = yield* project({ "a.ts": "old", "node_modules/.castellan-7/0": "half" })
      const files = [
        { path: "a.ts", content: "new" },
        { path: "z.ts", content: "x".repeat(3 * 1024 * 1024) }
      ]
      const provider = yield* SandboxProvider
      const bundle = SandboxPath.make("/tmp/bundle.json")
      yield* provider.writeFile(name, bundle, Stream.make(new TextEncoder().encode(JSON.stringify(files))))
      // A limit on the process's file size simulates a full disk.
      const script = `cd app; trap '' XFSZ; ulimit -f 2048; exec node -e "$0" "$1"`
      const command = new Command({ command: "sh", args: ["-c", script, applyFiles, bundle], cwd: null, env: {} })
      const { end, stdout } = yield* (yield* Sandboxes).run(name, command, Duration.seconds(30))
      assert.strictEqual(end.exitCode, 0)
      const failed = [{ path: "z.ts", reason: "It can't be written (EFBIG)" }]
      assert.deepStrictEqual(JSON.parse(stdout), { applied: [], failed })
      assert.strictEqual(
        yield* stdoutOf(name, "cat app/a.ts; ls app; ls -A app/node_modules"),
        "olda.ts\nnode_modules\npackage.json\nvite"
      )
    })
  )

  it.effect("list files without links and generated files, and skip contents that are too large or not text", () =>
    Effect.gen(function* () {
      const { name } = yield* project()
      const guest = yield* GuestScripts
      yield* sh(
        name,
        `cd app; mkdir -p dist src/builder .git src/node_modules pub
        for file in dist/x.js src/builder/x.tsx .git/HEAD src/node_modules/x bun.lock .gitignore src/lib.ts; do echo $file > $file; done
        printf 'a\\0b' > pub/nul.bin; printf '\\377\\376' > pub/bad.txt; ln -s /etc/passwd pub/passwd; mkfifo pub/pipe
        head -c ${limits.file} /dev/zero | tr '\\0' x > pub/fits.txt; head -c ${limits.file + 1} /dev/zero | tr '\\0' x > pub/long.txt
        printf '\\357\\273\\277bom' > pub/bom.txt; printf x > pub/closed.txt; mkdir shut; chmod 000 pub/closed.txt shut`
      )
      const files = [
        ".gitignore",
        "package.json",
        ...["bad.txt", "bom.txt", "closed.txt", "fits.txt", "long.txt", "nul.bin"].map((file) => `pub/${file}`),
        "src/builder/x.tsx",
        "src/lib.ts"
      ]
      assert.deepStrictEqual(yield* guest.list(name, { contents: false }), {
        files,
        skipped: [{ path: "shut", reason: "It can't be read" }],
        next: null
      })
      const { contents = {}, skipped } = yield* guest.list(name, { contents: true })
      assert.deepStrictEqual(skipped, [
        { path: "shut", reason: "It can't be read" },
        { path: "pub/bad.txt", reason: "It is not text" },
        { path: "pub/closed.txt", reason: "It can't be read" },
        { path: "pub/long.txt", reason: "It is larger than 256 KiB" },
        { path: "pub/nul.bin", reason: "It is not text" }
      ])
      assert.strictEqual(contents["pub/fits.txt"]?.length, limits.file)
      assert.strictEqual(contents["pub/bom.txt"], "\uFEFFbom")
      assert.strictEqual(contents["src/lib.ts"], "src/lib.ts\n")
    })
  )

  it.effect("list files in pages and down to a depth limit", () =>
    Effect.gen(function* () {
      const { name } = yield* project()
      const guest = yield* GuestScripts
      yield* sh(name, "cd app; mkdir -p a/deep b node_modules/x; touch a.ts a/1 a/deep/2 a-b b/3 c node_modules/x/y")
      const all = ["a-b", "a.ts", "a/1", "a/deep/2", "b/3", "c", "package.json"]
      for (const limit of [1, 2, 7]) {
        const found: Array<string> = []
        let after: string | undefined
        do {
          const { files, next } = yield* guest.list(name, { contents: false, limit, after })
          assert.isAtMost(files.length, limit)
          found.push(...files)
          after = next ?? undefined
        } while (after !== undefined)
        assert.deepStrictEqual(found, all)
      }
      const shallow = yield* guest.list(name, { contents: false, depth: 2 })
      assert.deepStrictEqual(shallow.files, ["a-b", "a.ts", "a/1", "b/3", "c", "package.json"])
    })
  )

  it.effect("list contents up to their total size limit", () =>
    Effect.gen(function* () {
      const { name } = yield* project()
      const guest = yield* GuestScripts
      yield* sh(name, `cd app; for n in $(seq 10 34); do head -c 262144 /dev/zero | tr '\\0' x > $n.txt; done`)
      const { contents = {}, files, skipped } = yield* guest.list(name, { contents: true })
      assert.strictEqual(files.length, 26)
      assert.strictEqual(Object.keys(contents).length, 20)
      assert.strictEqual(skipped.length, 6)
      for (const { reason } of skipped) assert.strictEqual(reason, "The contents together are larger than 5 MiB")
    })
  )

  it.effect("run concurrent changes one at a time", () =>
    Effect.gen(function* () {
      const { name } = yield* project()
      const names = Array.from({ length: 6 }, (_, n) => String(n))
      const all = names.map((text) => apply(name, Object.fromEntries(names.map((file) => [`${file}.txt`, text]))))
      yield* Effect.all(all, { concurrency: "unbounded" })
      const texts = yield* stdoutOf(name, "cat app/*.txt")
      assert.strictEqual(new Set(texts).size, 1, texts)
    })
  )
})
