// A program that knows nothing of any emulator.
import { Sandbox } from "@vercel/sandbox"

const sandbox = await Sandbox.create({ name: "of-a-program", ports: [3000] })
const done = await sandbox.runCommand("echo", ["hello"])
const text = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nserved"
const steps = JSON.stringify([{ _tag: "Listen", port: 3000, text }])
await sandbox.runCommand({ cmd: "steps", args: [steps], detached: true })
const served = await (await fetch(`${sandbox.domain(3000)}/path?query`)).text()
console.log(JSON.stringify([sandbox.name, await done.stdout(), served.split("\r\n")[0]]))
await sandbox.delete()
