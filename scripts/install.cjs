// Installs the pinned dependencies before a script of package.json runs. This file uses only syntax that every Node
// supports, so that an old Node prints the message below instead of a syntax error.
"use strict"

var oldest = /\d+/.exec(require("../package.json").engines.node)[0]

if (parseInt(process.versions.node, 10) < Number(oldest)) {
  console.error("Castellan needs Node " + oldest + " or newer to start; this is Node " + process.versions.node + ".")
  process.exit(1)
}

require("./installPinned.cjs")
