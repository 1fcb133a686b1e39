import { PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import { PortClosed, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Stream } from "effect"
import { app, ask, hostOf, previewServer, loopback, name, rawApp, say } from "./PreviewFixture.ts"

/** Ports that stand for the reasons that an app is unavailable. */
const away = { starting: 2001, stopped: 2002, unavailable: 2003, defect: 2004, brokenAtOnce: 2005 }

const page = previewServer({
  toApp: (asked, port) => {
    if (asked !== name) return new PreviewUnavailable({ state: "stopped" })
    switch (port) {
      case away.starting:
        return new PreviewUnavailable({ state: "starting" })
      case away.stopped:
        return new PreviewUnavailable({ state: "stopped" })
      case away.unavailable:
        return new SandboxUnavailable({ operation: "connect", retryable: true, cause: new Error("secret") })
      case away.defect:
        return Effect.die(new Error("secret"))
      case away.brokenAtOnce:
        return Effect.succeed({
          host: "a",
          incoming: Stream.fail(new PortClosed({ name, port })),
          send: () => new PortClosed({ name, port }),
          end: Effect.void
        })
      default:
        return Effect.catchTag(loopback(port), "PortClosed", () => new PreviewUnavailable({ state: "starting" }))
    }
  }
}).pipe(Effect.provide(Logger.layer([])))

const html = { accept: "text/html,application/xhtml+xml,*/*;q=0.8" }

describe("The preview of an app", () => {
  it.live("shows a page that reloads after a second while the app is starting", () =>
    Effect.gen(function* () {
      const port = yield* page
      for (const to of [away.starting, away.brokenAtOnce, 1024]) {
        const { headers, status, text } = yield* ask(port, hostOf(to), { headers: html })
        assert.deepStrictEqual([status, headers["retry-after"]], [503, "1"])
        assert.strictEqual(headers["content-type"], "text/html; charset=utf-8")
        assert.include(text, "<p>This app is starting.</p>")
        assert.include(text, '<meta http-equiv="refresh" content="1">')
        assert.include(text, "color-scheme: light dark")
      }
    }).pipe(Effect.scoped)
  )

  it.live("shows a page that reloads after ten seconds while the app is stopped", () =>
    Effect.gen(function* () {
      const { headers, status, text } = yield* ask(yield* page, hostOf(away.stopped), { headers: html })
      assert.deepStrictEqual([status, headers["retry-after"]], [404, undefined])
      assert.include(text, "<p>This app has stopped.</p>")
      assert.include(text, '<meta http-equiv="refresh" content="10">')
    }).pipe(Effect.scoped)
  )

  it.live("shows for an app that never existed the same page as for a stopped one, byte for byte", () =>
    Effect.gen(function* () {
      const port = yield* page
      const words = (host: string, method: string, accept: string) =>
        `${method} /x HTTP/1.1\r\nhost: ${host}\r\naccept: ${accept}\r\nconnection: close\r\n\r\n`
      for (const method of ["GET", "HEAD", "POST"]) {
        for (const accept of ["text/html", "*/*"]) {
          const answers = yield* Effect.forEach(
            [
              hostOf(away.stopped),
              hostOf(away.stopped, "app-two"),
              "x.localhost",
              "a.b.localhost",
              "80-app-one.localhost"
            ],
            (host) => say(port, words(host, method, accept))
          )
          const [stopped, ...others] = answers.map((answer) => answer.replace(/\r\nDate: [^\r]*/, ""))
          assert.match(stopped!, /^HTTP\/1\.1 404 Not Found\r\n/)
          for (const other of others) assert.strictEqual(other, stopped)
        }
      }
    }).pipe(Effect.scoped)
  )

  it.live("shows a page without the cause if the app is unreachable", () =>
    Effect.gen(function* () {
      const port = yield* page
      for (const to of [away.unavailable, away.defect]) {
        const { headers, status, text } = yield* ask(port, hostOf(to), { headers: html })
        assert.deepStrictEqual([status, headers["retry-after"]], [503, "5"])
        assert.include(text, "<p>This app can't be reached right now.</p>")
        assert.notInclude(text + JSON.stringify(headers), "secret")
      }
    }).pipe(Effect.scoped)
  )

  it.live("shows a page that does not reload if the app disconnects without a response", () =>
    Effect.gen(function* () {
      const { port: to } = yield* rawApp((socket) => socket.once("data", () => socket.end()))
      const { status, text } = yield* ask(yield* page, hostOf(to), { headers: html, method: "POST", body: "x" })
      assert.strictEqual(status, 502)
      assert.include(text, "<p>This app sent an invalid response.</p>")
      assert.notInclude(text, "http-equiv")
    }).pipe(Effect.scoped)
  )

  it.live("sends one line of text instead of a page unless the client accepts HTML, and no body for HEAD", () =>
    Effect.gen(function* () {
      const port = yield* page
      const asked = (accept: string | undefined, method = "GET") =>
        ask(port, hostOf(away.starting), { method, headers: accept === undefined ? {} : { accept } })
      for (const accept of ["text/html", "TEXT/HTML;q=0.1", "a/b, text/html;level=1"]) {
        assert.match((yield* asked(accept)).text, /^<!doctype html>/)
      }
      for (const accept of [
        undefined,
        "",
        "*/*",
        "text/*",
        "application/json",
        "text/html;q=0",
        "text/html; q=0.0",
        "text/htmlx"
      ]) {
        const { headers, text } = yield* asked(accept)
        assert.deepStrictEqual(
          [headers["content-type"], text],
          ["text/plain; charset=utf-8", "This app is starting.\n"]
        )
      }
      for (const accept of ["text/html", "*/*"]) {
        const get = yield* asked(accept)
        const head = yield* asked(accept, "HEAD")
        assert.deepStrictEqual([head.status, head.text], [503, ""])
        assert.strictEqual(head.headers["content-length"], get.headers["content-length"])
      }
    }).pipe(Effect.scoped)
  )

  it.live("sends error pages that are not cached, run no script and reveal nothing about the server", () =>
    Effect.gen(function* () {
      const port = yield* page
      for (const to of Object.values(away)) {
        const { headers, text } = yield* ask(port, hostOf(to), { headers: html })
        const {
          date: _,
          "content-length": __,
          "retry-after": ___,
          "content-security-policy": policy,
          ...rest
        } = headers
        assert.match(
          policy as string,
          /^default-src 'none'; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'$/
        )
        assert.deepStrictEqual(rest, {
          "content-type": "text/html; charset=utf-8",
          "cache-control": "no-store",
          vary: "accept",
          "x-content-type-options": "nosniff",
          "x-robots-tag": "noindex",
          "referrer-policy": "no-referrer",
          connection: "close"
        })
        assert.notInclude(text, "<script")
        assert.notMatch(text, /app-one|localhost|req_|castellan/i)
      }
    }).pipe(Effect.scoped)
  )

  it.live("shows the app as soon as it accepts connections", () =>
    Effect.gen(function* () {
      let state: "starting" | "ready" = "starting"
      const { port: to } = yield* app((_, response) => response.end("here"))
      const port = yield* previewServer({
        toApp: (_, asked) => {
          const here = Effect.catchTag(
            loopback(asked),
            "PortClosed",
            () => new PreviewUnavailable({ state: "starting" })
          )
          return state === "ready" ? here : new PreviewUnavailable({ state })
        }
      })
      assert.strictEqual((yield* ask(port, hostOf(to))).status, 503)
      state = "ready"
      assert.strictEqual((yield* ask(port, hostOf(to))).text, "here")
    }).pipe(Effect.scoped)
  )
})
