/**
 * Renders a model's Markdown as DOM nodes. A model's text is not trusted: HTML in it is shown as text, and the rendered
 * Markdown goes through DOMPurify with a list of the elements that Markdown needs.
 */

import { copyButton, element } from "./dom.js";
import { Marked } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[/** @type {keyof ESCAPES} */ (character)]);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: (/** @type {{text: string, block?: boolean}} */ { text, block }) => (block ? `<p>${escape(text)}</p>` : escape(text)),
    // An image would tell its host who reads this, and when, so the page shows the address instead.
    image: (/** @type {{href: string, text: string}} */ { href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
  },
});

const SANITIZE = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a".split(" "),
    ..."table thead tbody tr th td input".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "class", "start", "align", "type", "checked", "disabled"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  // DOMPurify checks the value of every other attribute with that expression too.
  ADD_URI_SAFE_ATTR: ["start", "align", "type"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (/** @type {Element} */ node) => {
  if (node.nodeName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

/** @param {DocumentFragment} fragment */
function frameCode(fragment) {
  for (const code of fragment.querySelectorAll("pre > code")) {
    const pre = /** @type {HTMLElement} */ (code.parentElement);
    const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
    pre.tabIndex = 0;
    const frame = element("div", { class: "code" });
    pre.replaceWith(frame);
    const head = element("div", { class: "code-head" }, element("span", {}, language), copyButton(() => code.textContent ?? ""));
    frame.append(head, pre);
  }
}

/**
 * Shows a growing text. Draws only changed blocks again, so a selection in a finished paragraph survives and a long answer
 * stays cheap.
 */
export class MarkdownView {
  node = element("div", { class: "markdown" });
  /** @type {{raw: string, nodes: ChildNode[]}[]} */
  #blocks = [];
  #taken = 0;

  /** @param {string} text */
  show(text) {
    const tokens = marked.lexer(text);
    let same = 0;
    while (same < tokens.length && tokens[same].raw === this.#blocks[same]?.raw) same += 1;
    for (const { nodes } of this.#blocks.splice(same)) for (const node of nodes) node.remove();
    for (const token of tokens.slice(same)) {
      const fragment = DOMPurify.sanitize(marked.parser([token]), SANITIZE);
      frameCode(fragment);
      const nodes = [...fragment.childNodes];
      this.node.append(fragment);
      this.#blocks.push({ raw: token.raw, nodes });
    }
  }

  /**
   * Returns the finished blocks that were not taken before, for reading them out.
   *
   * @param {boolean} complete whether the text has ended, and its last block too
   * @returns {string[]}
   */
  takeFinished(complete) {
    const end = Math.max(this.#taken, this.#blocks.length - (complete ? 0 : 1));
    const finished = this.#blocks.slice(this.#taken, end);
    this.#taken = end;
    return finished.map(({ nodes }) => nodes.map((node) => node.textContent).join("").trim()).filter(Boolean);
  }
}
