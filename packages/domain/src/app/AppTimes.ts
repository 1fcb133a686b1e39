/** The times of an app's lifecycle. */
import { Duration } from "effect"

export interface AppTimes {
  /** How long after its last use the provider stops an app. */
  readonly idle: Duration.Duration
  /** How long a worker's lease lasts without a renewal. */
  readonly lease: Duration.Duration
  /** How long a new app's page may take to answer, once its sandbox runs. */
  readonly answerWithin: Duration.Duration
  /** How long the first app waits until the image with the scaffold's packages is built. */
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
