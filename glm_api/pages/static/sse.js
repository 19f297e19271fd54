/**
 * Reads server-sent events from a fetch body, because `EventSource` cannot POST.
 *
 * Comments (`: ping`) and fields other than `data` are ignored. An event that the connection cuts short is dropped, as the
 * HTML standard says. Lines may end in LF or CRLF, and a line or a character may be split between reads.
 *
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @returns {AsyncGenerator<string, void, void>} the data of each event, in order
 */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  /** @type {string[]} */
  let data = [];
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines.map((text) => text.replace(/\r$/, ""))) {
        if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    // The reader may stop early, at [DONE] or on an error: then close the connection.
    reader.cancel().catch(() => {});
  }
}
