import { assert, describe, it } from "@effect/vitest"
import { execFile, spawnSync } from "node:child_process"
import { chown, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

interface User {
  readonly uid?: number
  readonly gid?: number
}

const isRoot = process.getuid?.() === 0

/** The users of the server. That of an unprivileged user may not have access to the project's directory. */
const servers: Record<string, User> = {
  "the user who runs the tests": {},
  ...(isRoot ? { "an unprivileged user": { uid: 65_534, gid: 65_534 } } : {})
}

const programOf = (name: string) => fileURLToPath(new URL(`./${name}.ts`, import.meta.url))

const hasAccess = (user: User) =>
  spawnSync(process.execPath, ["-e", `require("fs").accessSync(${JSON.stringify(programOf("attack"))})`], user)
    .status === 0

/** The report of a program of this folder, run as that user in a temporary directory. */
const runReport = async <A>(name: string, user: User): Promise<ReadonlyArray<A>> => {
  const directory = await mkdtemp(join(tmpdir(), "castellan-attacks-"))
  try {
    if (user.uid !== undefined) await chown(directory, user.uid, user.gid!)
    const args = [programOf(name), join(directory, "local")]
    const { stdout } = await promisify(execFile)(process.execPath, args, user)
    // Log lines precede the report.
    return JSON.parse(stdout.split("\n").at(-1)!) as ReadonlyArray<A>
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

describe.each(Object.entries(servers))("A sandbox of a server that runs as %s", (_, user) => {
  it.skipIf(!hasAccess(user))(
    "withstands every attack, and each attack succeeds if its protection is switched off",
    async () => {
      interface Outcome {
        readonly title: string
        readonly succeeded: boolean
        readonly succeededWithout: boolean
      }
      const outcomes = await runReport<Outcome>("attack", user)
      assert.isAbove(outcomes.length, 8)
      assert.deepStrictEqual(
        outcomes.filter(({ succeeded, succeededWithout }) => succeeded || !succeededWithout),
        []
      )
    }
  )

  it.skipIf(!hasAccess(user))(
    "is stopped when it hides files that fill the disk, and is removed completely, which du and rm alone do not achieve",
    async () => {
      interface Outcome {
        readonly title: string
        readonly reason: string
        readonly isPlain: boolean
      }
      const outcomes = await runReport<Outcome>("hoard", user)
      assert.lengthOf(outcomes, 3)
      for (const { isPlain, reason, title } of outcomes) {
        assert.strictEqual(reason, "It exceeded its disk limit", title)
        // Root can enter every directory.
        if (!isRoot || !title.endsWith("closed")) assert.isFalse(isPlain, title)
      }
    }
  )
})
