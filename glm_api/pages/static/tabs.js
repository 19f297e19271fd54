/** Knows which conversations other pages of this site, in tabs or windows, are answering now. */

/** @typedef {{answering: string, ended: boolean} | "who"} Note */

/** @returns {BroadcastChannel | null} null if the browser forbids it; then the pages do not know of each other */
function open() {
  try {
    return new BroadcastChannel("glm.tabs");
  } catch {
    return null;
  }
}

const channel = open();
/** @type {Set<string>} */
const elsewhere = new Set();

/**
 * @param {object} hooks
 * @param {() => Iterable<string>} hooks.answering the conversations that this page is answering
 * @param {(id: string) => void} hooks.changed another page began or ended
 */
export function startTabs({ answering, changed }) {
  channel?.addEventListener("message", (/** @type {MessageEvent<Note>} */ { data }) => {
    if (data === "who") {
      for (const id of answering()) tellTabs(id, { ended: false });
    } else {
      if (data.ended) elsewhere.delete(data.answering);
      else elsewhere.add(data.answering);
      changed(data.answering);
    }
  });
}

/** @param {string} id of a conversation @param {{ended: boolean}} state */
export function tellTabs(id, { ended }) {
  channel?.postMessage(/** @type {Note} */ ({ answering: id, ended }));
}

/** Forgets all pages, because one may be gone, and asks the others again. */
export function askTabs() {
  elsewhere.clear();
  channel?.postMessage(/** @type {Note} */ ("who"));
}

/** @param {string} id of a conversation */
export function isAnsweredElsewhere(id) {
  return elsewhere.has(id);
}
