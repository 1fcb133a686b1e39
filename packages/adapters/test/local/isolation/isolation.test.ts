import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Option, Schedule, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { writeFile } from "node:fs/promises"
import { homedir } from "node:os"
import { join } from "node:path"
import { tmpdir } from "node:os"
import { createSandbox, withSandboxes, stdoutOf, sh } from "../sandboxes.ts"
import { localProvider } from "../temporary.ts"

const mebibyte = 1024 * 1024

const world = withSandboxes(localProvider({ limits: { disk: 40 * mebibyte } }))

/** Waits until the sandbox no longer runs and returns it. */
const ended = (name: SandboxName) =>
  Effect.gen(function* () {
    const provider = yield* SandboxProvider
    const sandbox = Option.getOrThrow(yield* provider.find(name))
    return sandbox.status === "running" ? yield* Effect.fail("still running" as const) : sandbox
  }).pipe(Effect.retry({ schedule: Schedule.spaced("200 millis"), times: 100 }))

layer(world, { excludeTestServices: true, timeout: "60 seconds" })("A local sandbox", (it) => {
  it.effect("runs commands as an unprivileged user without capabilities", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      assert.strictEqual(yield* stdoutOf(name, "id -u; id -un; echo $HOME"), "1000\nuser\n/home/user")
      assert.strictEqual(
        yield* stdoutOf(name, "grep -E 'CapEff|NoNewPrivs' /proc/self/status | tr -d '\\t '"),
        "CapEff:0000000000000000\nNoNewPrivs:1".replace(/ /g, "")
      )
    }).pipe(Effect.scoped)
  )

  it.effect("has Node, git and a shell", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      assert.strictEqual(yield* stdoutOf(name, "node -p process.version"), process.version)
      const commit =
        "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log --oneline | wc -l"
      assert.strictEqual(yield* stdoutOf(name, commit), "1")
    }).pipe(Effect.scoped)
  )

  it.effect("sees neither the host's users nor the server's data and environment", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const secret = join(tmpdir(), `castellan-secret-${SecureRandom.uuidV4Unsafe()}`)
      yield* Effect.acquireRelease(
        Effect.promise(() => writeFile(secret, "secret")),
        () => Effect.ignore(Effect.tryPromise(async () => (await import("node:fs/promises")).rm(secret)))
      )
      assert.strictEqual(
        yield* stdoutOf(name, `cat ${secret} ${homedir()}/.* /etc/shadow 2>/dev/null; ls /root /var/lib 2>/dev/null`),
        ""
      )
      assert.strictEqual(yield* stdoutOf(name, "cut -d: -f1 /etc/passwd | tr '\\n' ' '"), "root user nobody")
      const environment = yield* stdoutOf(name, "env | cut -d= -f1 | sort | tr '\\n' ' '")
      assert.strictEqual(
        environment,
        "CASTELLAN_COMMAND CASTELLAN_SANDBOX HOME LANG LOGNAME OLDPWD PATH PWD SHELL USER"
      )
      assert.strictEqual(yield* stdoutOf(name, "tr '\\0' '\\n' < /proc/1/environ"), "")
      assert.strictEqual(yield* stdoutOf(name, "ls /proc | grep -c '^[0-9]*$' | awk '{print ($1 < 12)}'"), "1")
    }).pipe(Effect.scoped)
  )

  it.effect("has its own host name and network", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      assert.strictEqual(
        yield* stdoutOf(
          name,
          "hostname; ls /sys/class/net 2>/dev/null | wc -l; cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '"
        ),
        `${yield* stdoutOf(name, "hostname")}\n0\nlo`
      )
      const local =
        'node -e \'const s=require("net").createServer(c=>c.end("hi")).listen(0,"127.0.0.1",()=>require("net").connect(s.address().port,"127.0.0.1").on("data",d=>{console.log(String(d));process.exit()}))\''
      assert.strictEqual(yield* stdoutOf(name, local), "hi")
    }).pipe(Effect.scoped)
  )

  it.effect("can't change the host's settings or programs, and can't create namespaces", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const tries = [
        "echo x > /proc/sys/kernel/core_pattern",
        "touch /usr/x",
        "unshare -Ur true",
        "mount -t tmpfs t /mnt",
        "kill -9 1 && sleep 0.1 && kill -0 1 && false"
      ]
      for (const attempt of tries)
        assert.notStrictEqual((yield* sh(name, `(${attempt}) 2>/dev/null`)).end.exitCode, 0, attempt)
    }).pipe(Effect.scoped)
  )

  it.effect("has only the standard streams as descriptors, and can open them again", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      assert.strictEqual(yield* stdoutOf(name, "ls /proc/self/fd | head -3 | tr '\\n' ' '"), "0 1 2")
      const { stderr, stdout } = yield* sh(name, "echo out > /dev/stdout; echo err > /dev/stderr")
      assert.deepStrictEqual([stdout, stderr], ["out\n", "err\n"])
    }).pipe(Effect.scoped)
  )

  it.effect("follows no link out of the sandbox", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const provider = yield* SandboxProvider
      const host = join(tmpdir(), `castellan-host-${SecureRandom.uuidV4Unsafe()}`)
      yield* Effect.acquireRelease(
        Effect.promise(() => writeFile(host, "of the host")),
        () => Effect.ignore(Effect.tryPromise(async () => (await import("node:fs/promises")).rm(host)))
      )
      yield* sh(
        name,
        `ln -s ${host} read; ln -s /etc/passwd passwd; ln -s ${host} write; ln -s /proc/1/root up; mkfifo pipe`
      )
      const read = (path: string) =>
        provider.readFile(name, SandboxPath.make(path)).pipe(Stream.decodeText(), Stream.mkString)
      assert.strictEqual((yield* Effect.flip(read("read")))._tag, "FileNotFound")
      assert.strictEqual((yield* Effect.flip(read("up/etc/shadow")))._tag, "FileNotFound")
      assert.strictEqual((yield* Effect.flip(read("pipe")))._tag, "FileNotFound")
      assert.notInclude(yield* read("passwd"), "castellan")
      yield* Effect.ignore(
        provider.writeFile(name, SandboxPath.make("write"), Stream.make(new TextEncoder().encode("x")))
      )
      const after = yield* Effect.promise(async () => (await import("node:fs/promises")).readFile(host, "utf8"))
      assert.strictEqual(after, "of the host")
    }).pipe(Effect.scoped)
  )

  it.effect("is stopped with the reason when it starts too many processes", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const bomb = new Command({
        command: "sh",
        args: ["-c", "while :; do sleep 100 & done"],
        cwd: null,
        env: {}
      })
      yield* Effect.forkScoped(Effect.ignore((yield* Sandboxes).run(name, bomb, Duration.minutes(1))))
      const { reason, status } = yield* ended(name)
      assert.deepStrictEqual([status, reason], ["failed", "It exceeded its process limit"])
    }).pipe(Effect.scoped)
  )

  const filling = {
    "with files": "dd if=/dev/zero of=big bs=1M count=2000; sleep 60",
    "with the output of its commands": "head -c 60000000 /dev/zero; sleep 60"
  }
  for (const [how, script] of Object.entries(filling)) {
    it.effect(`is stopped with the reason when it fills the disk ${how}`, () =>
      Effect.gen(function* () {
        const name = yield* createSandbox()
        const fill = new Command({ command: "sh", args: ["-c", script], cwd: null, env: {} })
        yield* Effect.forkScoped(Effect.ignore((yield* Sandboxes).run(name, fill, Duration.minutes(1))))
        const { reason, status } = yield* ended(name)
        assert.deepStrictEqual([status, reason], ["failed", "It exceeded its disk limit"])
      }).pipe(Effect.scoped)
    )
  }

  it.effect("stops at the end of its lifetime", () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const name = SandboxName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
      yield* provider.create({ name, from: Option.none(), lifetime: Duration.millis(300) })
      const { reason, status } = yield* ended(name)
      assert.deepStrictEqual([status, reason], ["stopped", "Its lifetime ended"])
      yield* provider.remove(name)
    }).pipe(Effect.scoped)
  )

  it.effect("keeps its files over more snapshots than a chain has layers", () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const name = yield* createSandbox()
      for (let i = 0; i < 65; i++) {
        if (i % 8 === 0) yield* sh(name, `echo ${i} >> log`)
        yield* provider.snapshot(name)
        yield* provider.resume(name, Duration.minutes(1))
      }
      assert.strictEqual(yield* stdoutOf(name, "tr '\\n' ' ' < log"), "0 8 16 24 32 40 48 56 64")
    }).pipe(Effect.scoped)
  )
})
