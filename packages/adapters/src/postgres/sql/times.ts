/** Converts times between Effect and the driver. */
import { DateTime } from "effect"

export const toDate = (time: DateTime.Utc): Date => DateTime.toDateUtc(time)

export const toDateOrNull = (time: DateTime.Utc | null): Date | null => (time === null ? null : toDate(time))

export const timeOrNull = (date: Date | null): DateTime.Utc | null => (date === null ? null : DateTime.makeUnsafe(date))
