/**
 * Tells which modules the `exports` of a published manifest name, by Node's rules: an exact key wins, then the pattern with
 * the longest text before its `*`; a null target hides a module.
 */

export type Exports = Readonly<Record<string, string | null>>

/** The target of a module in the published package; undefined if the module is internal. */
export const targetOf = (exports: Exports, module: string): string | undefined => {
  const key = `./${module}`
  if (key in exports) return exports[key] ?? undefined
  const patterns = Object.entries(exports)
    .flatMap(([pattern, target]) => {
      const [before, after] = pattern.split("*")
      return before === undefined || after === undefined ? [] : [{ before, after, target }]
    })
    .filter(
      ({ after, before }) => key.startsWith(before) && key.endsWith(after) && key.length > before.length + after.length
    )
    .sort((one, other) => other.before.length - one.before.length)
  const best = patterns[0]
  if (best === undefined || best.target === null) return undefined
  return best.target.replace("*", key.slice(best.before.length, key.length - best.after.length))
}
