/** What git's object check (`git fsck`) finds, and which of it a repository may have. */
/**
 * Blemishes of old commits that `git clone` takes and that harm nobody: a program wrote the name of a person, a date or a
 * file mode wrongly. They may be fetched and pushed. Every git that can be used here knows these names.
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
 * Trees and attributes that `git clone` takes although no git writes them. They may be fetched, because repositories have
 * them in their history; new commits that are pushed may not have them. Git skips names that it does not know.
 */
export const fetchOnlyFaults = [
  "badFilemode",
  "badTagName",
  "duplicateEntries",
  "largePathname",
  // Where this is in the tree that is checked out, the checkout fails. In older trees nothing reads it.
  "nullSha1",
  "treeNotSorted",
  // Git ignores attributes in lines and files that are too long.
  "gitattributesLarge",
  "gitattributesLineLength"
] as const

/**
 * Faults that are refused for good: objects that could lead a checkout or a submodule command out of the repository, or make
 * it run a program, and objects that git can't read. A fault that is in no list is refused too.
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

/** A line in which git says which fault an object has. */
const faultLine = /^(?:fatal|error): object [0-9a-f]{40,64}: ([A-Za-z0-9]{1,40}): /m

/**
 * The fault for which git refused an object: its name, or `object` if the name is not in the list above. Undefined where
 * git failed for another reason.
 */
export const faultIn = (stderr: string): string | undefined => {
  const name = faultLine.exec(stderr)?.[1]
  if (name !== undefined && names.has(name)) return name
  return name !== undefined || /^fatal: fsck error in pack/m.test(stderr) ? "object" : undefined
}
