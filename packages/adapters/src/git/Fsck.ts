/** Classifies the faults that git's object check (`git fsck`) finds. */
/**
 * Harmless faults of old commits that `git clone` accepts: a malformed name, date or file mode. They may be fetched and
 * pushed. Every supported git knows these names.
 */
export const harmlessFaults = [
  "badDate",
  "badDateOverflow",
  "badEmail",
  "badName",
  "badTimezone",
  "missingAuthor",
  "missingCommitter",
  "missingEmail",
  "missingNameBeforeEmail",
  "missingSpaceBeforeDate",
  "missingSpaceBeforeEmail",
  "missingTaggerEntry",
  "multipleAuthors",
  // Git shows the message up to the NUL.
  "nulInCommit",
  "zeroPaddedDate",
  "zeroPaddedFilemode"
] as const

/**
 * Faults of trees and attributes that `git clone` accepts although no git writes them. They may be fetched, because existing
 * histories have them, but not pushed. Git skips names that it does not know.
 */
export const fetchOnlyFaults = [
  "badFilemode",
  "badTagName",
  "duplicateEntries",
  "largePathname",
  // It fails the checkout of its own tree only.
  "nullSha1",
  "treeNotSorted",
  // Git ignores attributes in lines and files that are too long.
  "gitattributesLarge",
  "gitattributesLineLength"
] as const

/**
 * Faults that are always rejected: objects that could lead a checkout or a submodule command out of the repository or run a
 * program, and objects that git can't read. A fault in no list is rejected too.
 */
export const unsafeFaults = [
  // Paths that lead out of the tree, or into git's own directory.
  "emptyName",
  "fullPathname",
  "hasDot",
  "hasDotdot",
  "hasDotgit",
  // Submodules whose name, path, URL or update command could do harm.
  "gitmodulesBlob",
  "gitmodulesLarge",
  "gitmodulesMissing",
  "gitmodulesName",
  "gitmodulesPath",
  "gitmodulesSymlink",
  "gitmodulesUpdate",
  "gitmodulesUrl",
  // Objects that git can't read.
  "badObjectSha1",
  "badParentSha1",
  "badTree",
  "badTreeSha1",
  "badType",
  "gitattributesBlob",
  "gitattributesMissing",
  "missingObject",
  "missingTag",
  "missingTagEntry",
  "missingTree",
  "missingType",
  "missingTypeEntry",
  "nulInHeader",
  "unknownType",
  "unterminatedHeader"
] as const

const names: ReadonlySet<string> = new Set(unsafeFaults)

/** Matches the line in which git reports a faulty object. */
const faultLine = /^(?:fatal|error): object [0-9a-f]{40,64}: ([A-Za-z0-9]{1,40}): /m

/**
 * The name of the fault for which git rejected an object, or `object` if the name is not in the list above. Undefined if git
 * failed for another reason.
 */
export const faultIn = (stderr: string): string | undefined => {
  const name = faultLine.exec(stderr)?.[1]
  if (name !== undefined && names.has(name)) return name
  return name !== undefined || /^fatal: fsck error in pack/m.test(stderr) ? "object" : undefined
}
