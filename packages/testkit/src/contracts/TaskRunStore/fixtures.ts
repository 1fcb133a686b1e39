import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import {
  advance,
  type AppliedRunTransition,
  type RunChange,
  type RunStatus,
  type TaskName,
  TaskRun
} from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { Option, type Schema } from "effect"
import * as given from "../../given.ts"

import { at } from "../fixtures.ts"

export type Ports = TaskRunStore | TaskRunner | IdentityStore

export const runOf = (
  scope: AccountScope,
  more: {
    readonly task?: TaskName
    readonly createdAt?: number
    readonly input?: Schema.Json
    readonly sandbox?: SandboxName
  } = {}
) =>
  given.run(scope, {
    task: more.task ?? "session-lifecycle",
    ...(more.sandbox && { sandbox: more.sandbox }),
    input: more.input ?? { some: ["ünïcode \u0000 €", 1.5, null, { deep: true }] },
    at: at(more.createdAt ?? 1_700_000_000_123)
  })

/** The next transition of a run, or of one that a transition has just changed. */
export const next = (run: AppliedRunTransition | TaskRun, status: RunStatus, change: RunChange = {}) =>
  Option.getOrThrow(advance("after" in run ? run.after : run, status, at(1_700_000_001_456), change))
