/** Measures web apps with the real scaffold: creation until the page answers, then changes. Needs the package registry. */
import { AppFiles } from "@castellan/domain/app/AppFiles.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { PackageName } from "@castellan/domain/app/project/PackageName.ts"
import { ProjectPath } from "@castellan/domain/app/project/ProjectPath.ts"
import { Effect, Layer, Logger, Option, Stream } from "effect"
import { dataDirectory, onThisMachine, somebody, timed } from "./castellan.ts"
import { columns, heading, row, type Size } from "./figures.ts"

export const about = "Web apps with the real scaffold. Needs the package registry."

const sizes = { whole: { rounds: 15, installs: 5 }, quick: { rounds: 1, installs: 1 } }

const measure = Effect.fnUntraced(function* (size: Size) {
  const { installs, rounds } = sizes[size]
  const apps = yield* AppSandboxes
  const files = yield* AppFiles
  const scope = yield* somebody
  const create = apps.create(scope, Option.none())
  const times = (): Array<number> => []
  const [first, created, applied, listed, diagnosed, installed] = [times(), times(), times(), times(), times(), times()]
  yield* timed(first, create)
  for (let n = 0; n < rounds; n++) {
    const app = yield* timed(created, create)
    const changed = [{ path: ProjectPath.make("src/App.tsx"), content: `export default () => <p>${n}</p>\n` }]
    const events = yield* timed(applied, Stream.runCollect(files.apply(app, { files: changed, packages: [] })))
    const problem = events.find(({ _tag }) => _tag === "Problem")
    if (problem !== undefined) return yield* Effect.fail(problem)
    yield* timed(listed, files.files(app, { contents: true }))
    const { output, success } = yield* timed(diagnosed, files.diagnose(app))
    if (!success) return yield* Effect.fail(new Error(`The app's diagnosis failed: ${output}`))
    if (n < installs) yield* timed(installed, files.install(app, [PackageName.make("clsx")]))
  }
  row("create the first app, with npm install", first)
  row("create", created)
  row("apply one file", applied)
  row("list files with contents", listed)
  row("diagnose", diagnosed)
  row("install a package until the page answers", installed)
})

export const run = Effect.fnUntraced(function* (size: Size) {
  heading("Web apps (create returns when the page answers)")
  columns()
  yield* Effect.provide(measure(size), Layer.merge(onThisMachine(yield* dataDirectory), Logger.layer([])))
})
