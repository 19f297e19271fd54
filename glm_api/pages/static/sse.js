/**
 * Server-sent events from a fetch body. `EventSource` cannot POST, hence this.
 *
 * Comments (`: ping`) and fields other than `data` are passed over; an event that the connection cut short is dropped,
 * as the HTML standard says. Lines may end in LF or CRLF, and a line or a character may be split between reads.
 *
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @returns {AsyncGenerator<string, void, void>} the data of one event after another
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
    // The one who reads may leave early, at [DONE] or on an error: let go of the connection.
    reader.cancel().catch(() => {});
  }
}
