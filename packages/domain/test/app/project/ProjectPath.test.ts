import { ProjectPath, WrittenPath } from "../../../src/app/project/ProjectPath.ts"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as fc from "fast-check"
import { posix } from "node:path"

const isPath = Schema.is(ProjectPath)

describe("ProjectPath", () => {
  it("accepts relative paths of any depth and script", () => {
    for (const path of ["index.html", "src/App.tsx", ".env", "src/components/builder/X.tsx", "ö/日本.ts", "a b/c.ts"]) {
      assert.isTrue(isPath(path), path)
    }
  })

  it("rejects paths that leave the project", () => {
    for (const path of [
      "../x",
      "src/../../x",
      "..",
      "a/..",
      "/etc/passwd",
      "/src/App.tsx",
      "C:\\x",
      "src\\..\\..\\x"
    ]) {
      assert.isFalse(isPath(path), path)
    }
  })

  it("rejects paths that name no file", () => {
    for (const path of ["", ".", "src/", "src//x", "./x", "src/.", "a\0b", "a\ud800.ts"])
      assert.isFalse(isPath(path), path)
  })

  it("rejects paths in node_modules and .git", () => {
    for (const path of ["node_modules/react/index.js", "packages/a/node_modules/x", ".git/config", "a/.git/HEAD"]) {
      assert.isFalse(isPath(path), path)
    }
    assert.isTrue(isPath(".gitignore"))
    assert.isTrue(isPath("src/node_modules.ts"))
  })

  it("rejects paths and names that are longer than a file system allows", () => {
    assert.isTrue(isPath("x".repeat(255)))
    assert.isFalse(isPath("x".repeat(256)))
    assert.isFalse(isPath("ö".repeat(128)))
    assert.isFalse(isPath(Array.from({ length: 500 }, () => "directory").join("/")))
  })

  it("resolves to a path below any project directory", () => {
    const part = fc.constantFrom("..", ".", "", "a", "b.ts", "src", "...", "..a", "\\", " ")
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const path = parts.join("/")
        fc.pre(isPath(path))
        const resolved = posix.resolve("/home/user/app", path)
        assert.isTrue(resolved.startsWith("/home/user/app/"), path)
        assert.strictEqual(posix.relative("/home/user/app", resolved), path)
      })
    )
  })

  it("normalizes redundant parts when a written path is decoded", () => {
    const read: (text: string) => string = Schema.decodeUnknownSync(WrittenPath)
    for (const [written, path] of [
      ["./src/x.ts", "src/x.ts"],
      ["././x.ts", "x.ts"],
      ["src//x.ts", "src/x.ts"],
      ["src/./x.ts", "src/x.ts"],
      ["src/x.ts/.", "src/x.ts"],
      ["src/../x.ts", "x.ts"],
      ["a/b/../../x.ts", "x.ts"],
      [".gitignore", ".gitignore"],
      ["...", "..."]
    ] as const) {
      assert.strictEqual(read(written), path, written)
    }
  })

  it("rejects every spelling of a path that leaves the project, is absolute or names no file", () => {
    const isTaken = (path: string) => Schema.decodeUnknownExit(WrittenPath)(path)._tag === "Success"
    for (const path of ["../x", "./../x", "a/../../x", "a/../../app/x", "/x", "//x", "/./x", ".", "./", "a/..", "x/"]) {
      assert.isFalse(isTaken(path), path)
    }
    for (const path of ["./node_modules/x", "a/../node_modules/x", ".//.git/config", "./a\\b"]) {
      assert.isFalse(isTaken(path), path)
    }
    const part = fc.constantFrom("..", ".", "", "a", "b.ts", "src", "...", "..a", "\\", " ")
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const exit = Schema.decodeUnknownExit(WrittenPath)(parts.join("/"))
        fc.pre(exit._tag === "Success")
        assert.strictEqual(posix.relative("/app", posix.resolve("/app", parts.join("/"))), exit.value)
      })
    )
  })

  it("explains why a path is rejected", () => {
    const complaint = (path: string) => {
      const exit = Schema.decodeUnknownExit(ProjectPath)(path)
      return String(exit)
    }
    assert.include(complaint("../x"), "must not leave the project")
    assert.include(complaint("/x"), "must be relative to the project")
    assert.include(complaint("node_modules/x"), "must not be in node_modules or .git")
  })
})
