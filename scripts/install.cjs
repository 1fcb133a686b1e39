// Installs the pinned dependencies before a script of package.json runs. This file stays in the syntax that every Node
// understands, so that an old Node prints a sentence and not a syntax error.
"use strict"

var oldest = /\d+/.exec(require("../package.json").engines.node)[0]

if (parseInt(process.versions.node, 10) < Number(oldest)) {
  console.error("Castellan needs Node " + oldest + " or newer to start; this is Node " + process.versions.node + ".")
  process.exit(1)
}

require("./installPinned.cjs")
