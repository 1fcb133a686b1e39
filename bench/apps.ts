/** Web apps with the real scaffold: until the page answers, and what is done with them then. Needs the package registry. */
import { AppProjects } from "@castellan/domain/app/AppProjects.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { PackageName } from "@castellan/domain/app/PackageName.ts"
import { ProjectPath } from "@castellan/domain/app/ProjectPath.ts"
import { Effect, Logger, Option, Stream } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { onThisMachine, somebody, timed } from "./castellan.ts"
import { columns, heading, row } from "./figures.ts"

const rounds = 15

const all = Effect.gen(function* () {
  const apps = yield* AppSandboxes
  const projects = yield* AppProjects
  const scope = yield* somebody
  const create = apps.create(scope, Option.none())
  const times = (): Array<number> => []
  const [first, created, applied, listed, diagnosed, installed] = [times(), times(), times(), times(), times(), times()]
  yield* timed(first, create)
  for (let n = 0; n < rounds; n++) {
    const app = yield* timed(created, create)
    const files = [{ path: ProjectPath.make("src/App.tsx"), content: `export default () => <p>${n}</p>\n` }]
    yield* timed(applied, Stream.runDrain(projects.apply(app, { files, packages: [] })))
    yield* timed(listed, projects.files(app, { contents: true }))
    yield* timed(diagnosed, projects.diagnose(app))
    if (n < 5) yield* timed(installed, projects.install(app, [PackageName.make("clsx")]))
  }
  row("the first of all, with npm install", first)
  row("create", created)
  row("apply one file", applied)
  row("list the files with their contents", listed)
  row("diagnose", diagnosed)
  row("install a package, and answer again", installed)
})

export const run = async () => {
  heading("Web apps (create answers when the page does)")
  const directory = await mkdtemp(join(tmpdir(), "castellan-bench-"))
  columns()
  await Effect.runPromise(
    Effect.scoped(all.pipe(Effect.provide(onThisMachine(directory)), Effect.provide(Logger.layer([]))))
  )
  await rm(directory, { recursive: true, force: true })
}
