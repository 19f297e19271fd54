/** The chat page: one conversation is open; answers run on in others that were left. */

import { Answer } from "./answer.js";
import { ApiError, streamChat } from "./api.js";
import { focusComposer, setRunning, startComposer } from "./composer.js";
import * as conversations from "./conversations.js";
import { byId, element } from "./dom.js";
import { t, translatePage } from "./i18n.js";
import { prefer, preferences } from "./preferences.js";
import { awaitReady, chosenModel, loadModels } from "./server.js";
import { askForKey, startSettings } from "./settings.js";
import { closeIfNarrow, drawSidebar, startSidebar } from "./sidebar.js";
import { drawThread, LiveAnswerView } from "./thread.js";
import { TOOLS } from "./tools.js";

/** @typedef {import("./conversations.js").Conversation} Conversation */

const scroller = byId("scroller", HTMLElement);
const thread = byId("thread", HTMLElement);
const jump = byId("jump", HTMLButtonElement);
const announcer = byId("announcer", HTMLElement);

/** An answer that is being made. */
class Run {
  answer = new Answer();
  controller = new AbortController();
  view = new LiveAnswerView();
  #frame = 0;

  /** @param {Conversation} conversation */
  constructor(conversation) {
    this.conversation = conversation;
  }

  /** Draws at most once a frame, however fast the chunks come. */
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      follow(() => this.#announce(this.view.show(this.answer)));
    });
  }

  finish() {
    cancelAnimationFrame(this.#frame);
    this.#announce(this.view.finish(this.answer));
  }

  /** @param {string[]} paragraphs */
  #announce(paragraphs) {
    if (this.conversation === current) announcer.append(...paragraphs.map((text) => element("p", {}, text)));
  }
}

/** @type {Map<string, Run>} by conversation */
const runs = new Map();
/** @type {Map<string, ApiError>} why the last answer of a conversation failed */
const errors = new Map();
/** @type {Set<string>} conversations that the browser has no room for */
const unkept = new Set();

let current = conversations.load(location.hash.slice(1)) ?? conversations.create(preferences.system);

/** Keeps the end in sight while the thread grows, unless the user scrolled away from it. */
const NEAR_END_PX = 80;

function isAtEnd() {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
}

function scrollToEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}

/** @param {() => void} change */
function follow(change) {
  const wasAtEnd = isAtEnd();
  change();
  if (wasAtEnd) scrollToEnd();
  jump.hidden = isAtEnd();
}

function drawCurrent() {
  const run = runs.get(current.id);
  const running = run !== undefined;
  const nodes = drawThread(current, { running, error: errors.get(current.id) ?? null, actions });
  if (run) nodes.push(run.view.node);
  if (unkept.has(current.id)) nodes.push(element("p", { class: "note", role: "status" }, t("storageFull")));
  thread.replaceChildren(...nodes);
  setRunning(running);
  // What had the focus may be gone from the page.
  if (document.activeElement === document.body) focusComposer();
  document.title = current.title ? `${current.title} - GLM chat` : "GLM chat";
}

function drawList() {
  drawSidebar(conversations.list(), current.id, { open, rename, remove });
}

/** @param {Conversation} conversation */
function keep(conversation) {
  conversation.updated = Date.now();
  if (conversations.save(conversation)) unkept.delete(conversation.id);
  else unkept.add(conversation.id);
  drawList();
}

/** @param {Conversation} conversation */
function show(conversation) {
  current = conversation;
  history.replaceState(null, "", conversation.messages.length > 0 ? `#${conversation.id}` : location.pathname);
  announcer.replaceChildren();
  drawCurrent();
  drawList();
  scrollToEnd();
  jump.hidden = true;
}

/** @param {string} id */
function open(id) {
  const conversation = runs.get(id)?.conversation ?? conversations.load(id);
  if (conversation) show(conversation);
  closeIfNarrow();
  focusComposer();
}

function openNew() {
  show(conversations.create(preferences.system));
  closeIfNarrow();
  focusComposer();
}

/** @param {string} id @param {string} title */
function rename(id, title) {
  const conversation = id === current.id ? current : (runs.get(id)?.conversation ?? conversations.load(id));
  if (!conversation) return;
  conversation.title = title;
  conversations.save(conversation);
  drawList();
}

/** @param {string} id */
function remove(id) {
  runs.get(id)?.controller.abort();
  runs.delete(id);
  conversations.remove(id);
  if (id === current.id) openNew();
  else drawList();
}

/** @param {Conversation} conversation */
function requestBody(conversation) {
  return {
    ...(chosenModel() && { model: chosenModel() }),
    messages: conversations.toRequest(conversation),
    temperature: preferences.temperature,
    ...(preferences.maxTokens !== null && { max_tokens: preferences.maxTokens }),
    ...(preferences.tools && { tools: TOOLS }),
    stream: true,
    stream_options: { include_usage: true },
    return_progress: true,
  };
}

/**
 * Asks the model for the next message of a conversation.
 *
 * @param {Conversation} conversation
 */
async function ask(conversation) {
  if (runs.has(conversation.id)) return;
  const run = new Run(conversation);
  const { answer, controller } = run;
  runs.set(conversation.id, run);
  errors.delete(conversation.id);
  show(conversation);
  announcer.append(element("p", {}, t("answering")));
  /** @type {ApiError | null} */
  let error = null;
  try {
    for await (const chunk of streamChat(requestBody(conversation), controller.signal)) {
      answer.add(chunk);
      run.draw();
    }
  } catch (reason) {
    if (controller.signal.aborted) answer.ending = "stopped";
    else if (reason instanceof ApiError) error = reason;
    else throw reason;
  }
  if (error) answer.ending = "error";
  follow(() => run.finish());
  // A conversation that was deleted meanwhile stays deleted.
  if (runs.get(conversation.id) !== run) return;
  runs.delete(conversation.id);
  if (error) errors.set(conversation.id, error);
  if (!answer.isEmpty) conversation.messages.push(answer.toMessage());
  keep(conversation);
  if (conversation === current) follow(drawCurrent);
  if (error?.status === 401 && (await askForKey({ refused: true }))) {
    connect();
    ask(conversation);
  } else if (error?.status === 0 || error?.status === 503) {
    connect();
  }
}

/** @type {import("./thread.js").Actions} */
const actions = {
  send(text) {
    current.messages.push({ role: "user", content: text });
    keep(current);
    ask(current);
  },
  edit(text) {
    const last = current.messages.findLastIndex(({ role }) => role === "user");
    current.messages.splice(last, Infinity, { role: "user", content: text });
    keep(current);
    ask(current);
  },
  regenerate() {
    if (current.messages.at(-1)?.role === "assistant") current.messages.pop();
    ask(current);
  },
  sendResults(results) {
    for (const [toolCallId, content] of results) current.messages.push({ role: "tool", toolCallId, content });
    keep(current);
    ask(current);
  },
};

/** Waits for the server, then learns its models; asks for a key if it wants one. */
async function connect() {
  await awaitReady();
  try {
    await loadModels();
  } catch (reason) {
    if (reason instanceof ApiError && reason.status === 401 && (await askForKey({ refused: true }))) await connect();
  }
}

startSidebar();
startComposer({ send: actions.send, stop: () => runs.get(current.id)?.controller.abort() });
startSettings({
  system: () => current.system,
  setSystem(text) {
    current.system = text;
    prefer({ system: text });
    if (current.messages.length > 0) conversations.save(current);
  },
  languageChanged() {
    translatePage();
    drawCurrent();
    drawList();
  },
  keyChanged: connect,
});
byId("new-chat", HTMLButtonElement).addEventListener("click", openNew);
jump.addEventListener("click", () => {
  scrollToEnd();
  jump.hidden = true;
});
scroller.addEventListener("scroll", () => {
  jump.hidden = isAtEnd();
});
// Another page of the same site may have added, renamed or deleted a conversation.
window.addEventListener("storage", drawList);
// An answer that is still arriving is kept as far as it came.
window.addEventListener("pagehide", () => {
  for (const { conversation, answer } of runs.values()) {
    if (answer.isEmpty) continue;
    conversations.save({ ...conversation, messages: [...conversation.messages, { ...answer.toMessage(), ending: "stopped" }] });
  }
});

translatePage();
show(current);
connect();
focusComposer();
