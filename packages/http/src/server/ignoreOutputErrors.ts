/**
 * Keeps this process running when its output can't be written: the reader of a pipe is gone (EPIPE), the terminal is
 * closed (EIO), the disk is full (ENOSPC). Lines that can't be written are lost; later lines are tried again.
 */
export const ignoreOutputErrors = () => {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined)
}
