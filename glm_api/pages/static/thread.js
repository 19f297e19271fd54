/** The messages of one conversation, drawn. */

import { pendingToolCalls } from "./conversations.js";
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
 * @property {(text: string) => void} edit puts another text for the last message of the user and asks again
 * @property {() => void} regenerate drops the last answer, if there is one, and asks again
 * @property {(results: Map<string, string>) => void} sendResults by id of the call
 */

/**
 * @param {Conversation} conversation
 * @param {{running: boolean, error: ApiError | null, actions: Actions}} state
 * @returns {Node[]}
 */
export function drawThread(conversation, { running, error, actions }) {
  const { messages } = conversation;
  if (messages.length === 0) return [drawWelcome(actions)];
  const lastUser = messages.findLastIndex(({ role }) => role === "user");
  const nodes = messages.map((message, index) => {
    if (message.role === "assistant") {
      const isLast = index === messages.length - 1;
      return drawAnswer(message, isLast && !running && !error ? actions : null);
    }
    if (message.role === "tool") return drawToolResult(message, nameOfCall(messages, message.toolCallId));
    return drawQuestion(message, index === lastUser && !running ? actions : null);
  });
  if (running) return nodes;
  const pending = pendingToolCalls(conversation);
  if (error) nodes.push(drawError(error, actions));
  else if (pending.length > 0) nodes.push(drawResultForm(pending, actions));
  else if (messages.at(-1)?.role !== "assistant") nodes.push(drawUnanswered(actions));
  return nodes;
}

/** @param {Actions} actions */
function drawWelcome({ send }) {
  const suggestions = [t("suggestion1"), t("suggestion2"), t("suggestion3"), t("suggestion4")];
  return element(
    "section",
    { class: "welcome" },
    element("h1", {}, t("welcome")),
    element(
      "div",
      { class: "suggestions" },
      ...suggestions.map((text) => element("button", { type: "button", click: () => send(text) }, text)),
    ),
  );
}

/**
 * @param {Message} message
 * @param {Actions | null} actions null where the message cannot be edited
 */
function drawQuestion({ content }, actions) {
  const bubble = element("div", { class: "bubble" }, content);
  const article = element("article", { class: "message user", "aria-label": t("you") }, bubble);
  const foot = element("div", { class: "foot" }, copyButton(() => content));
  if (actions) {
    foot.append(iconButton("pencil", t("edit"), () => article.replaceChildren(drawEditor(content, actions, () => article.replaceChildren(bubble, foot)))));
  }
  article.append(foot);
  return article;
}

/**
 * @param {string} content
 * @param {Actions} actions
 * @param {() => void} cancel
 */
function drawEditor(content, actions, cancel) {
  const field = element("textarea", { "aria-label": t("message"), rows: Math.min(10, content.split("\n").length + 1) });
  field.value = content;
  const form = element(
    "form",
    {
      class: "editor",
      submit: (/** @type {Event} */ event) => {
        event.preventDefault();
        if (field.value.trim()) actions.edit(field.value.trim());
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
  // The field can take the focus once it is in the page.
  queueMicrotask(() => field.focus());
  return form;
}

/**
 * @param {Message} message
 * @param {Actions | null} actions null where the answer cannot be made again
 */
function drawAnswer({ content, toolCalls = [], ending, stats = {} }, actions) {
  const article = element("article", { class: "message assistant", "aria-label": t("assistant") });
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
  if (actions) foot.append(iconButton("refresh-cw", t("regenerate"), actions.regenerate));
  foot.append(element("span", { class: "stats" }, describeStats(stats)));
  article.append(foot);
  return article;
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

/**
 * @param {Message} message
 * @param {string} name
 */
function drawToolResult({ content }, name) {
  return element(
    "details",
    { class: "tool result" },
    element("summary", {}, icon("arrow-down"), element("span", {}, t("toolResult", { name }))),
    element("pre", { tabindex: 0 }, prettyArguments(content)),
  );
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
 * @param {Actions} actions
 */
function drawResultForm(calls, { sendResults }) {
  const fields = calls.map(({ id, function: { name } }) => {
    const field = element("textarea", { id: `result-${id}`, rows: 2, required: true, spellcheck: "false" });
    field.value = proposeResult(name);
    return { id, name, field };
  });
  return element(
    "form",
    {
      class: "results",
      submit: (/** @type {Event} */ event) => {
        event.preventDefault();
        sendResults(new Map(fields.map(({ id, field }) => [id, field.value])));
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
 * @param {Actions} actions
 */
function drawError(error, { regenerate }) {
  return element(
    "div",
    { class: "error", role: "alert" },
    element("p", {}, describeError(error)),
    element("button", { class: "plain", type: "button", click: regenerate }, t("retry")),
  );
}

/** @param {Actions} actions */
function drawUnanswered({ regenerate }) {
  return element(
    "div",
    { class: "unanswered" },
    element("p", { class: "hint" }, t("unanswered")),
    element("button", { class: "plain", type: "button", click: regenerate }, t("retry")),
  );
}

/** An answer that is still arriving. */
export class LiveAnswerView {
  #markdown = new MarkdownView();
  #calls = element("div", {});
  #meter = element("progress", { max: 1, "aria-hidden": "true" });
  #words = element("span", {}, t("waiting"));
  #status = element("p", { class: "status" }, element("span", { class: "pulse", "aria-hidden": "true" }), this.#words);
  node = element("article", { class: "message assistant live", "aria-label": t("assistant"), "aria-busy": "true" });

  constructor() {
    this.node.append(this.#markdown.node, this.#calls, this.#status);
  }

  /**
   * @param {import("./answer.js").Answer} answer
   * @returns {string[]} paragraphs that are finished since the last time
   */
  show({ content, toolCalls, progress, isEmpty }) {
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
