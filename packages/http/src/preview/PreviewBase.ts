/** The base URL of app previews. */
import { Context } from "effect"

/** Each app gets a host name below this URL's host; undefined for `localhost` at the port of the current request. */
export const PreviewBase = Context.Reference<URL | undefined>("http/PreviewBase", { defaultValue: () => undefined })
