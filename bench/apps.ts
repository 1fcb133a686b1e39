/** Measures web apps with the real scaffold: until the page answers, and changes after that. Needs the package registry. */
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
  const projects = yield* AppFiles
  const scope = yield* somebody
  const create = apps.create(scope, Option.none())
  const times = (): Array<number> => []
  const [first, created, applied, listed, diagnosed, installed] = [times(), times(), times(), times(), times(), times()]
  yield* timed(first, create)
  for (let n = 0; n < rounds; n++) {
    const app = yield* timed(created, create)
    const files = [{ path: ProjectPath.make("src/App.tsx"), content: `export default () => <p>${n}</p>\n` }]
    const events = yield* timed(applied, Stream.runCollect(projects.apply(app, { files, packages: [] })))
    const problem = events.find(({ _tag }) => _tag === "Problem")
    if (problem !== undefined) return yield* Effect.fail(problem)
    yield* timed(listed, projects.files(app, { contents: true }))
    const { output, success } = yield* timed(diagnosed, projects.diagnose(app))
    if (!success) return yield* Effect.fail(new Error(`The app is not well: ${output}`))
    if (n < installs) yield* timed(installed, projects.install(app, [PackageName.make("clsx")]))
  }
  row("the first of all, with npm install", first)
  row("create", created)
  row("apply one file", applied)
  row("list the files with their contents", listed)
  row("diagnose", diagnosed)
  row("install a package, and answer again", installed)
})

export const run = Effect.fnUntraced(function* (size: Size) {
  heading("Web apps (create answers when the page does)")
  columns()
  yield* Effect.provide(measure(size), Layer.merge(onThisMachine(yield* dataDirectory), Logger.layer([])))
})
