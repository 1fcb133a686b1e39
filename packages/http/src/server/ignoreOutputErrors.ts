/**
 * Keeps this process running when its output can't be written: the reader of a pipe is gone (EPIPE), the terminal is
 * closed (EIO), the disk is full (ENOSPC). What can't be written is lost; later lines are written if they can be.
 */
export const ignoreOutputErrors = () => {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined)
}
