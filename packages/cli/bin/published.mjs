#!/usr/bin/env node
// The command of the published package, which holds JavaScript: any Node that `engines` names runs it.
const args = process.argv.slice(2)
const isServer = args.length === 1 && args[0] === "serve"
await import(isServer ? "@castellan/http/server/main.ts" : "../lib/main.js")
