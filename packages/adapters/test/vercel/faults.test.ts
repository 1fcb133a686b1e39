import { asSteps } from "@castellan/testkit/Program.ts"
import { inMemory } from "./emulatedVercel.ts"
import { asks, survives } from "./faults.ts"

survives("sandboxes in memory", inMemory(), asSteps)
asks("sandboxes in memory", inMemory())
