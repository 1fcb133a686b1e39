/** Pages served instead of an app's response. They reveal nothing about the server, and reload where that may help. */
import { createHash } from "node:crypto"
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http"

/** Why the app's own response is not served. */
export type PreviewPage = keyof typeof pages

interface Page {
  readonly status: number
  readonly sentence: string
  /** Seconds after which the page reloads itself. */
  readonly reload?: number
  /** Seconds after which a program may retry. */
  readonly retryAfter?: number
}

const pages = {
  starting: { status: 503, sentence: "This app is starting", reload: 1, retryAfter: 1 },
  stopped: { status: 404, sentence: "This app has stopped", reload: 10 },
  unreachable: { status: 503, sentence: "This app can't be reached right now", reload: 5, retryAfter: 5 },
  broken: { status: 502, sentence: "This app sent an invalid response" },
  refused: { status: 400, sentence: "This request can't be forwarded" }
} satisfies Record<string, Page>

const style = `
:root { color-scheme: light dark }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1rem/1.5 system-ui, sans-serif }
p { margin: 1rem; opacity: 0.75 }
`

// The page reloads by `http-equiv="refresh"`, so the policy can forbid all scripts.
const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'"
].join("; ")

const htmlOf = ({ reload, sentence }: Page) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
${reload === undefined ? "" : `<meta http-equiv="refresh" content="${reload}">\n`}<title>${sentence}</title>
<style>${style}</style>
</head>
<body>
<p>${sentence}.</p>
</body>
</html>
`

const acceptsHtml = (accept: string | undefined) =>
  (accept ?? "")
    .toLowerCase()
    .split(",")
    .map((range) => range.split(";").map((part) => part.trim()))
    .some(([type, ...parameters]) => type === "text/html" && !parameters.some((one) => /^q=0(\.0*)?$/.test(one)))

/** Responds with a page. The response's headers must not have been sent yet. */
export const sendPage = (request: IncomingMessage, response: ServerResponse, which: PreviewPage): void => {
  const page: Page = pages[which]
  const isHtml = acceptsHtml(request.headers.accept)
  const body = Buffer.from(isHtml ? htmlOf(page) : `${page.sentence}.\n`)
  // A status message from an earlier `writeHead` that threw would stay on the response without this one.
  response.writeHead(page.status, STATUS_CODES[page.status], {
    "content-type": `text/${isHtml ? "html" : "plain"}; charset=utf-8`,
    "content-length": body.length,
    "content-security-policy": policy,
    "cache-control": "no-store",
    vary: "accept",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
    "referrer-policy": "no-referrer",
    ...(page.retryAfter === undefined ? {} : { "retry-after": `${page.retryAfter}` })
  })
  response.end(request.method === "HEAD" ? undefined : body)
}
