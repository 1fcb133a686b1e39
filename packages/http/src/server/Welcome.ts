/** The text that the server prints once it is ready. */
export interface Started {
  readonly url: string
  readonly dataDirectory: string
  readonly database: string
  readonly isolation: string
  /** The admin key that this start issued; it is never shown again. */
  readonly key: string | undefined
}

const firstSteps = (url: string, key: string) => `
API key of the platform admin, shown this once:

  ${key}

Run a command in a new sandbox and read its output:

  curl -s -H 'x-api-key: ${key}' -H 'content-type: application/json' -d '{"command":"node","args":["-p","6 * 7"]}' ${url}/api/sandboxes | grep -o 'run_[a-z0-9]*' | xargs -I RUN curl -sN -H 'x-api-key: ${key}' ${url}/api/tasks/runs/RUN/logs
`

export const welcome = ({ database, dataDirectory, isolation, key, url }: Started): string =>
  `
Castellan listens on ${url}

  documentation  ${url}/docs
  data           ${dataDirectory}
  database       ${database}
  sandboxes      ${isolation}
${key === undefined ? "" : firstSteps(url, key)}`
