/** Draws the messages of one conversation. */

import { pendingToolCalls, versions } from "./conversations.js";
import { copyButton, element, icon, iconButton } from "./dom.js";
import { number, t } from "./i18n.js";
import { MarkdownView } from "./markdown.js";
import { prettyArguments, proposeResult } from "./tools.js";

/**
 * @typedef {import("./api.js").ApiError} ApiError
 * @typedef {import("./answer.js").ToolCall} ToolCall
 * @typedef {import("./answer.js").Stats} Stats
 * @typedef {import("./conversations.js").Conversation} Conversation
 * @typedef {import("./conversations.js").Message} Message
 *
 * @typedef {object} Actions what the user can ask for in the thread
 * @property {(text: string) => void} send
 * @property {(suggestion: import("./suggestions.js").Suggestion) => void} suggest
 * @property {(message: Message, text: string) => void} edit asks another question in place of this one
 * @property {(message: Message) => void} regenerate asks again, for another answer than this one or for an answer to this one
 * @property {(last: Message, results: Map<string, string>) => void} sendResults by id of the call
 * @property {(message: Message, step: Step) => void} choose shows this version of a message
 *
 * @typedef {"earlier" | "later"} Step
 */

/** @type {Set<string>} ids of the answers whose reasoning the user has opened */
export const unfolded = new Set();

/**
 * @param {Conversation} conversation
 * @param {Message[]} messages the branch that is shown
 * @param {{running: boolean, elsewhere: boolean, error: ApiError | null, actions: Actions}} state
 * @returns {Node[]}
 */
export function drawThread(conversation, messages, { running, elsewhere, error, actions }) {
  const last = messages[messages.length - 1];
  const lastUser = messages.findLast(({ role }) => role === "user");
  const nodes = messages.map((message) => {
    const switcher = running ? null : drawVersions(conversation, message, actions);
    if (message.role === "assistant") {
      return drawAnswer(message, switcher, message === last && !running && !error ? actions : null);
    }
    if (message.role === "tool") return drawToolResult(message, switcher, nameOfCall(messages, message.toolCallId));
    return drawQuestion(message, switcher, message === lastUser && !running ? actions : null);
  });
  if (running) return nodes;
  const pending = pendingToolCalls(messages);
  if (error) nodes.push(drawError(error, last, actions));
  else if (pending.length > 0) nodes.push(drawResultForm(pending, last, actions));
  else if (last.role !== "assistant" && !elsewhere) nodes.push(drawUnanswered(last, actions));
  return nodes;
}

/**
 * @param {import("./suggestions.js").Suggestion[]} suggestions
 * @param {boolean} demo whether the demo model is served
 * @param {Actions} actions
 */
export function drawWelcome(suggestions, demo, { suggest }) {
  return element(
    "section",
    { class: "welcome" },
    element("h1", {}, t("welcome")),
    demo && element("p", { class: "demo" }, t("demoWelcome")),
    element(
      "div",
      { class: "suggestions" },
      ...suggestions.map((suggestion) =>
        element(
          "button",
          { type: "button", click: () => suggest(suggestion) },
          suggestion.text,
          Boolean(suggestion.tools) && element("span", { class: "with-tools" }, icon("wrench"), t("withTools")),
        ),
      ),
    ),
  );
}

/**
 * @param {Conversation} conversation
 * @param {Message} message
 * @param {Actions} actions
 * @returns {HTMLElement | null} null if there is only one version
 */
function drawVersions(conversation, message, { choose }) {
  const all = versions(conversation, message);
  if (all.length === 1) return null;
  const at = all.indexOf(message);
  const button = (/** @type {Step} */ step) => {
    const other = all[step === "earlier" ? at - 1 : at + 1];
    const [name, label] = step === "earlier" ? ["chevron-left", t("versionEarlier")] : ["chevron-right", t("versionLater")];
    const node = iconButton(name, label, () => choose(other, step));
    node.dataset.step = step;
    node.disabled = !other;
    return node;
  };
  const place = element("span", {}, `${number(at + 1)}/${number(all.length)}`);
  const node = element("span", { class: "versions", role: "group", "aria-label": t("versions") }, button("earlier"), place, button("later"));
  node.dataset.message = message.id;
  return node;
}

/**
 * Keeps the keyboard focus in its place after another version was chosen and drawn.
 *
 * @param {HTMLElement} thread
 * @param {Message} message
 * @param {Step} step
 */
export function focusVersion(thread, message, step) {
  const buttons = [...thread.querySelectorAll("button")].filter(
    (button) => button.parentElement?.dataset.message === message.id && !button.disabled,
  );
  (buttons.find(({ dataset }) => dataset.step === step) ?? buttons[0])?.focus();
}

/**
 * @param {HTMLElement} thread
 * @returns {boolean} whether the user has written something in it that is not sent
 */
export function isWriting(thread) {
  return [...thread.querySelectorAll("textarea")].some(({ value, defaultValue }) => value !== defaultValue);
}

/**
 * @param {Message} message
 * @param {HTMLElement | null} switcher between its versions
 * @param {Actions | null} actions null if the message cannot be edited
 */
function drawQuestion(message, switcher, actions) {
  const { content } = message;
  const bubble = element("div", { class: "bubble" }, content);
  const article = element("article", { class: "message user", "aria-label": t("you") }, bubble);
  const foot = element("div", { class: "foot" }, copyButton(() => content));
  if (actions) {
    const cancel = () => article.replaceChildren(bubble, foot);
    const send = (/** @type {string} */ text) => actions.edit(message, text);
    foot.append(iconButton("pencil", t("edit"), () => article.replaceChildren(drawEditor(content, send, cancel))));
  }
  if (switcher) foot.append(switcher);
  article.append(foot);
  return article;
}

/**
 * @param {string} content
 * @param {(text: string) => void} send
 * @param {() => void} cancel
 */
function drawEditor(content, send, cancel) {
  const field = element("textarea", { "aria-label": t("message"), rows: Math.min(10, content.split("\n").length + 1) });
  field.defaultValue = content;
  const form = element(
    "form",
    {
      class: "editor",
      submit: (/** @type {Event} */ event) => {
        event.preventDefault();
        if (field.value.trim()) send(field.value.trim());
      },
      keydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Escape" && !event.isComposing) cancel();
      },
    },
    field,
    element(
      "div",
      { class: "dialog-foot" },
      element("button", { class: "plain", type: "button", click: cancel }, t("cancel")),
      element("button", { class: "primary", type: "submit" }, t("editSend")),
    ),
  );
  // The field can get the focus only when it is in the page.
  queueMicrotask(() => field.focus());
  return form;
}

/**
 * @param {Message} message
 * @param {HTMLElement | null} switcher between its versions
 * @param {Actions | null} actions null if the answer cannot be regenerated
 */
function drawAnswer(message, switcher, actions) {
  const { content, reasoning, toolCalls = [], ending, stats = {} } = message;
  const article = element("article", { class: "message assistant", "aria-label": t("assistant") });
  if (reasoning) {
    const thinking = new ThinkingView(unfolded.has(message.id), (open) => {
      if (open) unfolded.add(message.id);
      else unfolded.delete(message.id);
    });
    thinking.show(reasoning, describeThinking(stats));
    article.append(thinking.node);
  }
  if (content) {
    const markdown = new MarkdownView();
    markdown.show(content);
    article.append(markdown.node);
  }
  article.append(...toolCalls.map((call) => drawToolCall(call, actions !== null)));
  const notes = { length: t("endedLength"), stopped: t("endedStopped"), error: t("endedError") };
  const note = notes[/** @type {keyof typeof notes} */ (ending)];
  if (note) article.append(element("p", { class: "note" }, note));
  const foot = element("div", { class: "foot" });
  if (content) foot.append(copyButton(() => content));
  if (actions) foot.append(iconButton("refresh-cw", t("regenerate"), () => actions.regenerate(message)));
  if (switcher) foot.append(switcher);
  foot.append(element("span", { class: "stats" }, describeStats(stats)));
  article.append(foot);
  return article;
}

/** @param {Stats} stats */
function describeThinking({ thinkingMs = 0 }) {
  return t("thought", { n: number(thinkingMs / 1000, 1) });
}

/** @param {Stats} stats */
function describeStats({ completionTokens, tokensPerSecond, promptTokens, cachedTokens, firstTokenMs }) {
  const prompt = (/** @type {number} */ n) =>
    cachedTokens ? t("statPromptCached", { n: number(n), cached: number(cachedTokens) }) : t("statPrompt", { n: number(n) });
  return [
    completionTokens !== undefined && t("statTokens", { n: number(completionTokens) }),
    tokensPerSecond !== undefined && t("statSpeed", { n: number(tokensPerSecond, 1) }),
    promptTokens !== undefined && prompt(promptTokens),
    firstTokenMs !== undefined && t("statFirst", { n: number(firstTokenMs / 1000, 2) }),
  ]
    .filter(Boolean)
    .join(" · ");
}

/**
 * @param {ToolCall} call
 * @param {boolean} open
 */
function drawToolCall({ function: { name, arguments: text } }, open) {
  return element(
    "details",
    { class: "tool", open },
    element("summary", {}, icon("wrench"), element("span", {}, t("toolCall", { name }))),
    element("pre", { tabindex: 0 }, prettyArguments(text)),
  );
}

/** What the model thinks before it answers, folded until the user opens it. */
class ThinkingView {
  #words = element("span", {});
  #text = document.createTextNode("");

  /**
   * @param {boolean} open
   * @param {(open: boolean) => void} [toggled]
   */
  constructor(open, toggled = () => {}) {
    const summary = element("summary", {}, this.#words);
    const text = element("div", { class: "reasoning" }, this.#text);
    this.node = element("details", { class: "tool thinking", open, toggle: () => toggled(this.node.open) }, summary, text);
  }

  /**
   * @param {string} reasoning all of it so far
   * @param {string} words
   */
  show(reasoning, words) {
    this.#words.replaceChildren(words);
    this.#text.appendData(reasoning.slice(this.#text.length));
  }
}

/**
 * @param {Message} message
 * @param {HTMLElement | null} switcher between its versions
 * @param {string} name
 */
function drawToolResult({ content }, switcher, name) {
  const details = element(
    "details",
    { class: "tool result" },
    element("summary", {}, icon("arrow-down"), element("span", {}, t("toolResult", { name }))),
    element("pre", { tabindex: 0 }, prettyArguments(content)),
  );
  return switcher ? element("div", {}, details, element("div", { class: "foot" }, switcher)) : details;
}

/**
 * @param {Message[]} messages
 * @param {string | undefined} id
 */
function nameOfCall(messages, id) {
  return messages.flatMap(({ toolCalls = [] }) => toolCalls).find((call) => call.id === id)?.function.name ?? "";
}

/**
 * @param {ToolCall[]} calls
 * @param {Message} last the message that the results follow
 * @param {Actions} actions
 */
function drawResultForm(calls, last, { sendResults }) {
  const fields = calls.map(({ id, function: { name } }) => {
    const field = element("textarea", { id: `result-${id}`, rows: 2, required: true, spellcheck: "false" });
    field.defaultValue = proposeResult(name);
    return { id, name, field };
  });
  return element(
    "form",
    {
      class: "results",
      submit: (/** @type {Event} */ event) => {
        event.preventDefault();
        sendResults(last, new Map(fields.map(({ id, field }) => [id, field.value])));
      },
    },
    element("p", { class: "hint" }, t("toolResultHint")),
    ...fields.flatMap(({ name, field }) => [element("label", { for: field.id }, t("toolResult", { name })), field]),
    element("div", { class: "dialog-foot" }, element("button", { class: "primary", type: "submit" }, t("sendResult"))),
  );
}

/**
 * @param {ApiError} error
 * @returns {string}
 */
export function describeError({ message, status, retryAfter }) {
  const words = message || (status === 0 ? t("errorNetwork") : t("errorStatus", { status }));
  return retryAfter === null ? words : `${words} ${t("errorRetryAfter", { n: retryAfter })}`;
}

/**
 * @param {ApiError} error
 * @param {Message} last
 * @param {Actions} actions
 */
function drawError(error, last, { regenerate }) {
  return element(
    "div",
    { class: "error", role: "alert" },
    element("p", {}, describeError(error)),
    element("button", { class: "plain", type: "button", click: () => regenerate(last) }, t("retry")),
  );
}

/**
 * @param {Message} last
 * @param {Actions} actions
 */
function drawUnanswered(last, { regenerate }) {
  return element(
    "div",
    { class: "unanswered" },
    element("p", { class: "hint" }, t("unanswered")),
    element("button", { class: "plain", type: "button", click: () => regenerate(last) }, t("retry")),
  );
}

/** An answer that is still arriving. */
export class LiveAnswerView {
  #thinking = new ThinkingView(false);
  #markdown = new MarkdownView();
  #calls = element("div", {});
  #meter = element("progress", { max: 1, "aria-hidden": "true" });
  #words = element("span", {}, t("waiting"));
  #status = element("p", { class: "status" }, element("span", { class: "pulse", "aria-hidden": "true" }), this.#words);
  node = element("article", { class: "message assistant live", "aria-label": t("assistant"), "aria-busy": "true" });

  constructor() {
    this.#thinking.node.hidden = true;
    this.node.append(this.#thinking.node, this.#markdown.node, this.#calls, this.#status);
  }

  get isUnfolded() {
    return this.#thinking.node.open;
  }

  /**
   * @param {import("./answer.js").Answer} answer
   * @returns {string[]} paragraphs that are finished since the last time
   */
  show({ content, reasoning, toolCalls, progress, stats, isEmpty, isThinking }) {
    this.#thinking.node.hidden = reasoning === "";
    if (reasoning) this.#thinking.show(reasoning, isThinking ? t("thinking") : describeThinking(stats));
    this.#markdown.show(content);
    this.#calls.replaceChildren(...toolCalls.map((call) => drawToolCall(call, true)));
    const reading = isEmpty && progress !== null;
    if (reading) {
      this.#meter.value = progress;
      this.#words.replaceChildren(t("reading", { percent: Math.floor(progress * 100) }));
      if (!this.#meter.isConnected) this.#status.append(this.#meter);
    } else {
      this.#words.replaceChildren(isEmpty ? t("waiting") : "");
      this.#meter.remove();
    }
    return this.#markdown.takeFinished(false);
  }

  /**
   * @param {import("./answer.js").Answer} answer
   * @returns {string[]} paragraphs that are finished since the last time
   */
  finish(answer) {
    this.#markdown.show(answer.content);
    return this.#markdown.takeFinished(true);
  }
}
