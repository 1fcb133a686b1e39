/** Every port in memory, as one layer: the whole domain runs over it without touching anything outside the process. */
import { Aead, Digest, Mac, SecureRandom } from "effect/crypto"
import { Layer } from "effect"
import * as MemoryAccountStore from "./fakes/stores/MemoryAccountStore.ts"
import * as MemoryAppStore from "./fakes/stores/MemoryAppStore.ts"
import * as MemoryBaseImageStore from "./fakes/stores/MemoryBaseImageStore.ts"
import * as MemoryEnvironmentStore from "./fakes/stores/MemoryEnvironmentStore.ts"
import * as MemoryEventStore from "./fakes/stores/MemoryEventStore.ts"
import * as MemoryIdempotencyStore from "./fakes/stores/MemoryIdempotencyStore.ts"
import * as MemoryIdentityStore from "./fakes/stores/MemoryIdentityStore.ts"
import * as MemoryRepoHost from "./fakes/repo/MemoryRepoHost.ts"
import * as MemorySandbox from "./fakes/sandbox/MemorySandbox.ts"
import * as MemorySessionStore from "./fakes/stores/MemorySessionStore.ts"
import * as MemoryTaskRuns from "./fakes/MemoryTaskRuns.ts"

/** All ports with the handles of the fakes; `options` adds programs to the sandboxes. */
export const layerWith = (options: MemorySandbox.MemoryOptions) =>
  Layer.mergeAll(
    MemoryIdentityStore.layer,
    MemoryIdempotencyStore.layer,
    MemoryAccountStore.layer,
    MemoryEnvironmentStore.layer,
    MemoryTaskRuns.layer,
    MemoryEventStore.layer,
    MemorySessionStore.layer,
    MemoryAppStore.layer,
    MemoryBaseImageStore.layer,
    MemorySandbox.layerWith(options),
    MemoryRepoHost.layer
  )

/** All ports, with sandboxes that have only the built-in programs. */
export const layer = layerWith({})

/** The cryptography that use cases need. */
export const crypto = Layer.mergeAll(Aead.layerWebCrypto, Mac.layerWebCrypto, Digest.layerWebCrypto).pipe(
  Layer.provideMerge(SecureRandom.layerWebCrypto)
)
