import { SnapshotRecord, SnapshotKey } from "@castellan/domain/account/SnapshotRecord.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { at, unique } from "../fixtures.ts"

export const newId = () => SnapshotId.make(unique())

export const newSource = () => SandboxName.make(`sbx_${unique()}`)

export const snapshotChange = (millis = 9000) => ({ snapshot: { id: newId(), expiresAt: at(millis) } })

export const snapshotOf = (scope: AccountScope, more: Partial<SnapshotRecord> = {}) =>
  new SnapshotRecord({
    key: SnapshotKey.make(`snp_${unique()}`),
    account: scope.account,
    source: newSource(),
    id: null,
    purpose: "manual",
    startedAt: at(1_700_000_000_123),
    expiresAt: at(1_800_000_000_456),
    ...more
  })
