// A preload module (`node --import preload.mjs?api=http://127.0.0.1:7799`) that sends requests for Vercel to the emulator.
const api = new URL(new URL(import.meta.url).searchParams.get("api") ?? "http://127.0.0.1:7799").origin
const ask = globalThis.fetch

const emulatorUrl = (requested) => {
  const url = new URL(requested)
  const below = url.pathname + url.search
  if (["https://vercel.com", "https://api.vercel.com"].includes(url.origin)) return api + below
  const [, subdomain] = /^https:\/\/([^.]+)\.vercel\.run$/.exec(url.origin) ?? []
  return subdomain === undefined ? requested : `${api}/domains/${subdomain}${below}`
}

globalThis.fetch = async (input, init) =>
  input instanceof Request
    ? ask(new Request(emulatorUrl(input.url), input), init)
    : ask(emulatorUrl(String(input)), init)
