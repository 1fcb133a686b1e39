// Loaded before a program (`node --import preload.mjs?api=http://127.0.0.1:7799`): what it asks of Vercel is asked there.
const api = new URL(new URL(import.meta.url).searchParams.get("api") ?? "http://127.0.0.1:7799").origin
const ask = globalThis.fetch

const here = (asked) => {
  const url = new URL(asked)
  const below = url.pathname + url.search
  if (["https://vercel.com", "https://api.vercel.com"].includes(url.origin)) return api + below
  const [, subdomain] = /^https:\/\/([^.]+)\.vercel\.run$/.exec(url.origin) ?? []
  return subdomain === undefined ? asked : `${api}/domains/${subdomain}${below}`
}

globalThis.fetch = async (input, init) =>
  input instanceof Request ? ask(new Request(here(input.url), input), init) : ask(here(String(input)), init)
