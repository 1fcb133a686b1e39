import { Duration } from "effect"

/** The times that apps live by. */
export interface AppTimes {
  /** How long nobody uses an app before its provider stops it. */
  readonly idle: Duration.Duration
  /** How long who brings one up may be silent before another goes on. */
  readonly lease: Duration.Duration
  /** How long a new app's page is waited for, once its sandbox runs. */
  readonly answerWithin: Duration.Duration
  /** How long the first app of all waits for the scaffold's packages. */
  readonly imageWithin: Duration.Duration
  /** How long the package manager may take. */
  readonly installWithin: Duration.Duration
  /** How long the files of a stopped app are kept. */
  readonly keepStopped: Duration.Duration
}

export const defaultTimes: AppTimes = {
  idle: Duration.minutes(30),
  lease: Duration.seconds(15),
  answerWithin: Duration.minutes(1),
  imageWithin: Duration.minutes(5),
  installWithin: Duration.minutes(3),
  keepStopped: Duration.days(7)
}
