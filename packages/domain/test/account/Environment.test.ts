import { bootable, Environment, isOwn, repoFor, usable } from "@castellan/domain/account/Environment.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Option, Schema } from "effect"
import * as fc from "fast-check"

const host = {
  name: "github",
  url: "https://github.com",
  publicUrl: "https://github.com",
  owner: RepoOwner.make("Org")
}
const account = AccountId.make("6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
const other = AccountId.make("0e8a7c3d-1f5b-4a2e-9c6d-5b4a39281706")
const repo = (owner: string, name: string) => new Repo({ owner: RepoOwner.make(owner), name: RepoName.make(name) })

const environment = (more: Partial<Environment>) =>
  new Environment({
    account,
    snapshot: null,
    expiresAt: null,
    repo: null,
    granted: false,
    setup: null,
    createdAt: DateTime.makeUnsafe(0),
    ...more
  })

describe("The saved snapshot of an environment", () => {
  const snapshot = SnapshotId.make("snap_1")

  it("is bootable until it expires, and not at the moment of its expiry", () => {
    const one = environment({ snapshot, expiresAt: DateTime.makeUnsafe(1000) })
    assert.deepStrictEqual(bootable(one, DateTime.makeUnsafe(999)), Option.some(snapshot))
    assert.deepStrictEqual(bootable(one, DateTime.makeUnsafe(1000)), Option.none())
    assert.deepStrictEqual(bootable(one, DateTime.makeUnsafe(1001)), Option.none())
  })

  it("is always bootable without an expiry, and never if there is none", () => {
    assert.deepStrictEqual(bootable(environment({ snapshot }), DateTime.makeUnsafe(8e15)), Option.some(snapshot))
    const expiresAt = DateTime.makeUnsafe(1000)
    assert.deepStrictEqual(bootable(environment({ expiresAt }), DateTime.makeUnsafe(0)), Option.none())
  })
})

describe("The repository created for an account", () => {
  const nameOf = (name: string | null) => repoFor(host, { id: account, name }).name as string

  it("is named after the account's name, as far as GitHub allows it, and its id", () => {
    assert.strictEqual(nameOf("Ada Lovelace"), `ada-lovelace-${account}`)
    assert.strictEqual(nameOf("  Zoë Ångström (Ltd.) "), `zoe-angstrom-ltd-${account}`)
    assert.strictEqual(nameOf("ﬁne ℡"), `fine-tel-${account}`)
    assert.strictEqual(nameOf("a".repeat(300)), `${"a".repeat(40)}-${account}`)
    assert.strictEqual(nameOf(`${"a".repeat(39)} b`), `${"a".repeat(39)}-${account}`)
    for (const name of [null, "", "   ", "!?$%&/()=", "字漢", "..", "../..", "-", "\0\n"]) {
      assert.strictEqual(nameOf(name), `account-${account}`, String(name))
    }
    assert.strictEqual(nameOf("../../etc/passwd.git"), `etc-passwd-git-${account}`)
  })

  it("has a valid name for every account name, and belongs to that account only", () =>
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: "binary", maxLength: 300 }), fc.string({ unit: "grapheme", maxLength: 300 })),
        (name) => {
          const made = repoFor(host, { id: account, name })
          assert.isTrue(Schema.is(RepoName)(made.name))
          assert.match(made.name, /^[a-z0-9]+(?:-[a-z0-9]+)*$/)
          assert.isTrue(isOwn(host, account, made))
          assert.isFalse(isOwn(host, other, made))
          assert.deepStrictEqual(RepoUrl.parse(host.url, RepoUrl.urlOf(host.url, made)), Option.some(made))
        }
      ),
      { numRuns: 1000 }
    ))

  it("does not belong to an account whose name is the id of another", () => {
    const liar = repoFor(host, { id: other, name: account })
    assert.isFalse(isOwn(host, account, liar))
    assert.isTrue(isOwn(host, other, liar))
  })
})

describe("The repository of an environment", () => {
  it("belongs to an account if the service's owner has it and its name ends with the account's full id, in any case", () => {
    assert.isTrue(isOwn(host, account, repo("oRG", `X-${account.toUpperCase()}`)))
    assert.isFalse(isOwn(host, account, repo("elsewhere", `x-${account}`)))
    assert.isFalse(isOwn(host, account, repo("Org", account)))
    assert.isFalse(isOwn(host, account, repo("Org", `x-${account}-more`)))
    assert.isFalse(isOwn(host, account, repo("Org", `x${account}`)))
    assert.isFalse(isOwn(host, account, repo("Org", "shared")))
  })

  it("is read with the service's credential if it belongs to the account or was granted to it", () => {
    const used = (url: string | null, granted: boolean) =>
      Option.isSome(usable(host, environment({ repo: url, granted })))
    const own = `https://github.com/Org/x-${account}`
    for (const granted of [true, false]) {
      assert.isTrue(used(own, granted))
      assert.isTrue(used(`${own}.git`, granted))
      assert.isFalse(used(null, granted))
      assert.isFalse(used(`https://elsewhere.example/Org/x-${account}`, granted))
      assert.isFalse(used(`https://user@github.com/Org/x-${account}`, granted))
      assert.isFalse(used(`${own}/tree/main`, granted))
    }
    assert.isTrue(used("https://github.com/else/where", true))
    assert.isFalse(used("https://github.com/else/where", false))
    assert.isFalse(used(`https://github.com/Org/x-${other}`, false))
  })
})
