/** Every port in memory, as one layer: the whole domain runs over it, and nothing outside the process is touched. */
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

/** The ports, with the fakes' own handles visible beside them, and with programs that a test teaches its sandboxes. */
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

/** The ports, with sandboxes that have the programs of a usual system and no others. */
export const layer = layerWith({})

/** What use cases need of cryptography. */
export const crypto = Layer.mergeAll(Aead.layerWebCrypto, Mac.layerWebCrypto, Digest.layerWebCrypto).pipe(
  Layer.provideMerge(SecureRandom.layerWebCrypto)
)
