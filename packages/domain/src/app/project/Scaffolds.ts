import { Context, DateTime, Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { Digest } from "effect/crypto/Digest"
import { buildRetry, ImageKey } from "../../sandbox/BaseImage.ts"
import { BaseImages } from "../../sandbox/BaseImages.ts"
import type { SandboxName } from "../../sandbox/SandboxName.ts"
import { providerReason } from "../../sandbox/providerReason.ts"
import { SandboxProvider } from "../../sandbox/SandboxProvider.ts"
import type { SnapshotId } from "../../sandbox/Snapshot.ts"
import { encode } from "../../utf8.ts"
import { uuidOf } from "../../uuidOf.ts"
import type { AppTimes } from "../AppTimes.ts"
import { GuestScripts, GuestScriptFailed } from "../guest/GuestScripts.ts"
import { inProject, scaffold } from "./Scaffold.ts"

/** The scaffold image is not ready. `reason` is for the log; `retryAfterMs` is when to retry, null if never. */
export class ScaffoldNotReady extends Schema.TaggedError<ScaffoldNotReady>()("ScaffoldNotReady", {
  reason: Schema.String,
  retryAfterMs: Schema.NullOr(Schema.Int)
}) {}

/** Interval at which a build by another server is polled. */
const pollInterval = Duration.millis(500)

/** Provides the base image of new apps: the scaffold with its packages installed. All accounts share it. */
export class Scaffolds extends Context.Service<
  Scaffolds,
  {
    /** The image's snapshot. Builds it if there is none, or waits for the build of another server. */
    readonly snapshot: Effect.Effect<SnapshotId, ScaffoldNotReady>
    /** Records that the provider no longer has this snapshot, so that the next call builds another. */
    readonly lost: (snapshot: SnapshotId) => Effect.Effect<void>
  }
>()("domain/app/Scaffolds") {
  static readonly layer = (times: AppTimes) =>
    Layer.effect(
      Scaffolds,
      Effect.gen(function* () {
        const images = yield* BaseImages
        const provider = yield* SandboxProvider
        const guest = yield* GuestScripts
        // A changed scaffold gets an image of its own. The previous one is removed once nothing boots from it.
        const key = ImageKey.make(`everyone/app-${yield* uuidOf(yield* Digest, JSON.stringify(scaffold))}`)

        const prepare = Effect.fnUntraced(function* (builder: SandboxName) {
          for (const [file, text] of Object.entries(scaffold)) {
            yield* provider
              .writeFile(builder, inProject(file), Stream.make(encode(text)))
              .pipe(Effect.catchTags({ FileNotFound: Effect.die, FileRefused: Effect.die }))
          }
          const { failure } = yield* guest.install(builder, [], times.imageWithin)
          if (failure !== null) {
            yield* Effect.logWarning("Failed to install packages of the scaffold", { output: failure })
            return yield* new GuestScriptFailed({ reason: "The packages of the scaffold could not be installed" })
          }
        })

        const build = images
          .build({
            key,
            account: null,
            registry: true,
            prepare,
            explain: (failure) =>
              failure._tag === "GuestScriptFailed" ? failure.reason : "The sandbox could not be reached"
          })
          .pipe(
            Effect.catchTags({
              ImageNotBuilt: ({ reason }) => new ScaffoldNotReady({ reason, retryAfterMs: 1000 }),
              SandboxUnavailable: (failure) => {
                const { retryAfterMs, sentence } = providerReason(failure)
                return new ScaffoldNotReady({ reason: sentence, retryAfterMs })
              }
            })
          )

        const snapshot = Effect.gen(function* () {
          while (true) {
            const image = yield* images.find(key)
            const current = Option.flatMap(image, ({ current }) => Option.fromNullOr(current))
            if (Option.isSome(current)) {
              yield* images.recordUse(key)
              return current.value
            }
            const built: Option.Option<SnapshotId> = yield* build
            if (Option.isSome(built)) return built.value
            const after = Option.getOrNull(image)?.retryAfter ?? null
            const wait = after === null ? 0 : after.epochMilliseconds - (yield* DateTime.now).epochMilliseconds
            if (wait > 0) {
              const reason = Option.getOrNull(image)?.error ?? "The scaffold image could not be built"
              return yield* new ScaffoldNotReady({
                reason,
                retryAfterMs: Math.min(wait, Duration.toMillis(buildRetry.longest))
              })
            }
            yield* Effect.sleep(pollInterval)
          }
        }).pipe(
          Effect.timeoutOrElse({
            duration: times.imageWithin,
            orElse: () => new ScaffoldNotReady({ reason: "Building the scaffold image timed out", retryAfterMs: 1000 })
          }),
          Effect.withSpan("Scaffolds.snapshot")
        )

        return Scaffolds.of({ snapshot, lost: (snapshot) => images.markLost(key, snapshot) })
      })
    )
}
