import { bareName, PackageName } from "../../../src/app/project/PackageName.ts"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as fc from "fast-check"
import npa from "npm-package-arg"
import validate from "validate-npm-package-name"

const isPackage = Schema.is(PackageName)

describe("PackageName", () => {
  it("accepts any package of the registry, with a version, a range or a tag", () => {
    for (const name of [
      "react",
      "lodash.debounce",
      "@tanstack/react-query",
      "react@19.3.1",
      "react@^19",
      "react@~19.3",
      "react@19.x",
      "react@>=18 <20",
      "react@18 || 19",
      "react@latest",
      "@types/node@24.10.1",
      "vite@8.0.0-beta.1",
      "JSONStream",
      "x"
    ]) {
      assert.isTrue(isPackage(name), name)
    }
  })

  it("rejects options, paths, URLs, git repositories, aliases and shell syntax", () => {
    for (const name of [
      "",
      " ",
      "-g",
      "--global",
      "--registry=http://x",
      "@-g/x",
      ".",
      "..",
      "./x",
      "../x",
      "/etc/passwd",
      "~/x",
      "x.tgz",
      "x.tar.gz",
      "x@y.tgz",
      "file:x",
      "x@file:../y",
      "x@/etc",
      "x@../y",
      "x@.",
      "http://x/y.tgz",
      "https://x/y",
      "x@https://y",
      "git+ssh://git@x/y",
      "git@github.com:a/b.git",
      "a/b",
      "a/b#main",
      "github:a/b",
      "x@github:a/b",
      "x@npm:y@1",
      "npm:y",
      "a; touch /tmp/x",
      "a && b",
      "$(x)",
      "`x`",
      "a|b",
      "a>b",
      "a\nb",
      "a\0b",
      "a b",
      "react@",
      "react@1@2",
      "react@ 1",
      "@a",
      "@a/",
      "@/a",
      "@a/b/c",
      "node_modules",
      "favicon.ico",
      "_x",
      ".x",
      "é",
      "x".repeat(215)
    ]) {
      assert.isFalse(isPackage(name), JSON.stringify(name))
    }
  })

  it("has a bare name without the version, range or tag", () => {
    assert.strictEqual(bareName(PackageName.make("@types/node@24")), "@types/node")
    assert.strictEqual(bareName(PackageName.make("react@^19")), "react")
    assert.strictEqual(bareName(PackageName.make("@types/node")), "@types/node")
  })

  it("accepts only texts that npm itself parses as a package of a registry", () => {
    const piece = fc.constantFrom(
      "a",
      "react",
      "@",
      "/",
      ".",
      "-",
      "_",
      "~",
      "1",
      "1.2.3",
      "^",
      "*",
      "x",
      " ",
      "||",
      ">=",
      "<",
      "=",
      "+",
      ":",
      "#",
      "git",
      "npm:",
      "file:",
      "tgz",
      ".tgz",
      "tar",
      "latest",
      "..",
      "node_modules",
      "\\",
      "%",
      "'",
      "!"
    )
    let taken = 0
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 7 }), (pieces) => {
        const text = pieces.join("")
        fc.pre(isPackage(text))
        taken++
        const parsed = npa(text)
        assert.isTrue(parsed.registry, text)
        assert.include(["tag", "version", "range"], parsed.type, text)
        assert.strictEqual(parsed.name, bareName(PackageName.make(text)), text)
        assert.isTrue(validate(parsed.name!).validForOldPackages, text)
      }),
      { numRuns: 5000 }
    )
    assert.isAbove(taken, 1000)
  })
})
