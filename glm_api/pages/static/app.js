/** The chat page. One conversation is open; answers in other conversations continue. */

import { Answer } from "./answer.js";
import { ApiError, streamChat } from "./api.js";
import { focusComposer, setRunning, startComposer } from "./composer.js";
import * as conversations from "./conversations.js";
import { byId, element, icon, saveFile } from "./dom.js";
import { language, t, translatePage } from "./i18n.js";
import { prefer, preferences } from "./preferences.js";
import { awaitReady, chosenModel, loadModels } from "./server.js";
import { askForKey, startSettings } from "./settings.js";
import { closeIfNarrow, drawSidebar, startSidebar } from "./sidebar.js";
import { isDemo, suggestionsFor } from "./suggestions.js";
import { askTabs, isAnsweredElsewhere, startTabs, tellTabs } from "./tabs.js";
import { drawThread, drawWelcome, focusVersion, isWriting, LiveAnswerView, unfolded } from "./thread.js";
import { TOOLS } from "./tools.js";

/** @typedef {import("./conversations.js").Conversation} Conversation */

const scroller = byId("scroller", HTMLElement);
const thread = byId("thread", HTMLElement);
const jump = byId("jump", HTMLButtonElement);
const announcer = byId("announcer", HTMLElement);
const toolsOn = byId("tools-on", HTMLButtonElement);
const demoNote = byId("demo-note", HTMLElement);

/** The pause between two attempts to get the list of models. */
const RETRY_MS = 2000;

/** An answer that the model is generating. */
class Run {
  answer = new Answer();
  controller = new AbortController();
  view = new LiveAnswerView();
  #frame = 0;

  /**
   * @param {Conversation} conversation
   * @param {string | null} parent the id of the message that is answered
   */
  constructor(conversation, parent) {
    this.conversation = conversation;
    this.parent = parent;
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
/** @type {Map<string, {error: ApiError, head: string | null}>} by conversation: why its last answer failed, and where */
const errors = new Map();
/** @type {Map<string, Conversation>} conversations that the browser cannot store: they last as long as the page */
const unkept = new Map();

let current = conversations.load(location.hash.slice(1)) ?? conversations.create(preferences.system);

/** Keeps the end visible while the thread grows, unless the user scrolled away from it. */
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
  const failed = errors.get(current.id);
  const elsewhere = isAnsweredElsewhere(current.id);
  const messages = conversations.branch(current, run ? run.parent : current.head);
  const error = failed?.head === current.head ? failed.error : null;
  const nodes =
    messages.length > 0
      ? drawThread(current, messages, { running, elsewhere, error, actions })
      : [drawWelcome(chosenModel() ? suggestionsFor(chosenModel(), language()) : [], isDemo(chosenModel()), actions)];
  if (run) nodes.push(run.view.node);
  else if (elsewhere) nodes.push(element("p", { class: "note", role: "status" }, t("answeredElsewhere")));
  if (unkept.has(current.id)) nodes.push(drawUnkept(current));
  thread.replaceChildren(...nodes);
  setRunning(running);
  // The welcome says more about the demo.
  demoNote.hidden = messages.length === 0 || !isDemo(chosenModel());
  // The element that had the focus may have been removed from the page.
  if (document.activeElement === document.body) focusComposer();
  document.title = current.title ? `${current.title} - GLM chat` : "GLM chat";
}

/** @param {Conversation} conversation */
function drawUnkept(conversation) {
  const save = () => {
    const headings = { user: t("you"), assistant: t("assistant"), tool: t("tool") };
    saveFile(`${conversation.title}.md`, conversations.toMarkdown(conversation, headings));
  };
  return element(
    "div",
    { class: "unkept", role: "status" },
    element("p", {}, t("storageFull")),
    element("button", { class: "plain", type: "button", click: save }, t("saveFile")),
  );
}

/** Draws after a change elsewhere, but not over text that the user is writing in the thread. */
function redraw() {
  if (!isWriting(thread)) follow(drawCurrent);
}

function drawList() {
  const kept = conversations.list();
  const ids = new Set(kept.map(({ id }) => id));
  const all = [...kept, ...[...unkept.values()].filter(({ id }) => !ids.has(id))];
  drawSidebar(
    all.sort((one, other) => other.updated - one.updated),
    current.id,
    { open, rename, remove },
  );
}

function drawToolsOn() {
  toolsOn.hidden = !preferences.tools;
}

/**
 * @param {string} id
 * @returns {Conversation | null} the one that this page holds
 */
function held(id) {
  return id === current.id ? current : (runs.get(id)?.conversation ?? unkept.get(id) ?? null);
}

/**
 * Changes a conversation and stores it, or marks it as one for which there is no room.
 *
 * @param {Conversation} conversation
 * @param {() => void} [mutate]
 */
function keep(conversation, mutate) {
  if (conversations.change(conversation, mutate)) unkept.delete(conversation.id);
  else unkept.set(conversation.id, conversation);
}

/** Tries again to store conversations, because something was deleted. */
function keepUnkept() {
  for (const conversation of unkept.values()) keep(conversation);
  if (!unkept.has(current.id)) thread.querySelector(".unkept")?.remove();
}

/** @param {Conversation} conversation */
function show(conversation) {
  current = conversation;
  history.replaceState(null, "", conversation.messages.length > 0 ? `#${conversation.id}` : location.pathname);
  announcer.replaceChildren();
  askTabs();
  drawCurrent();
  drawList();
  scrollToEnd();
  jump.hidden = true;
}

/** @param {string} id */
function open(id) {
  const conversation = held(id) ?? conversations.load(id);
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
  const conversation = held(id) ?? conversations.load(id);
  if (!conversation) return;
  keep(conversation, () => {
    conversation.title = title;
  });
  drawList();
}

/** @param {string} id */
function remove(id) {
  conversations.remove(id);
  forget(id);
  keepUnkept();
}

/** @param {string} id of a conversation that was deleted */
function forget(id) {
  runs.get(id)?.controller.abort();
  runs.delete(id);
  errors.delete(id);
  unkept.delete(id);
  if (id === current.id) openNew();
  else drawList();
}

/** @param {Conversation} conversation @param {string | null} parent */
function requestBody(conversation, parent) {
  return {
    ...(chosenModel() && { model: chosenModel() }),
    messages: conversations.toRequest(conversation.system, conversations.branch(conversation, parent)),
    temperature: preferences.temperature,
    ...(preferences.maxTokens !== null && { max_tokens: preferences.maxTokens }),
    ...(preferences.tools && { tools: TOOLS }),
    stream: true,
    stream_options: { include_usage: true },
    return_progress: true,
  };
}

/**
 * Asks the model for an answer. Earlier answers to the same message stay; if this fails, the page shows one of them again.
 *
 * @param {Conversation} conversation
 * @param {string | null} parent the id of the message to answer
 */
async function ask(conversation, parent) {
  if (runs.has(conversation.id)) return;
  const shown = conversation.head;
  const run = new Run(conversation, parent);
  const { answer, controller } = run;
  runs.set(conversation.id, run);
  errors.delete(conversation.id);
  tellTabs(conversation.id, { ended: false });
  show(conversation);
  announcer.append(element("p", {}, t("answering")));
  /** @type {ApiError | null} */
  let error = null;
  try {
    for await (const chunk of streamChat(requestBody(conversation, parent), controller.signal)) {
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
  if (runs.get(conversation.id) === run) {
    runs.delete(conversation.id);
    keep(conversation, () => {
      if (!answer.isEmpty) {
        conversations.append(conversation, parent, answer.toMessage());
        if (run.view.isUnfolded) unfolded.add(/** @type {string} */ (conversation.head));
      }
      if (error && shown !== parent) conversation.head = shown;
      if (error) errors.set(conversation.id, { error, head: conversation.head });
    });
    drawList();
    if (conversation === current) follow(drawCurrent);
  } else {
    error = null;
  }
  tellTabs(conversation.id, { ended: true });
  if (error?.status === 401 && (await askForKey({ refused: true }))) {
    connect();
    ask(conversation, parent);
  } else if (error?.status === 0 || error?.status === 503) {
    connect();
  }
}

/** @type {import("./thread.js").Actions} */
const actions = {
  send(text) {
    keep(current, () => conversations.append(current, current.head, { role: "user", content: text }));
    ask(current, current.head);
  },
  suggest({ text, tools = false }) {
    if (tools) prefer({ tools });
    drawToolsOn();
    actions.send(text);
  },
  edit(message, text) {
    keep(current, () => conversations.append(current, message.parent, { role: "user", content: text }));
    ask(current, current.head);
  },
  regenerate(message) {
    ask(current, message.role === "assistant" ? message.parent : message.id);
  },
  sendResults(last, results) {
    let { id } = last;
    keep(current, () => {
      for (const [toolCallId, content] of results) {
        conversations.append(current, id, { role: "tool", toolCallId, content });
        id = /** @type {string} */ (current.head);
      }
    });
    ask(current, id);
  },
  choose(message, step) {
    const top = scroller.scrollTop;
    keep(current, () => {
      current.head = conversations.newestAfter(current, message);
    });
    drawCurrent();
    scroller.scrollTop = top;
    jump.hidden = isAtEnd();
    focusVersion(thread, message, step);
  },
};

/** @type {Promise<void> | null} */
let connecting = null;

/** Waits for the server, then gets its models; asks the user for a key if the server requires one. */
function connect() {
  connecting ??= learnModels().finally(() => {
    connecting = null;
  });
  return connecting;
}

async function learnModels() {
  while (true) {
    await awaitReady();
    const before = chosenModel();
    try {
      await loadModels();
      // The suggestions and the note about the demo depend on the chosen model.
      if (chosenModel() !== before) redraw();
      return;
    } catch (reason) {
      if (!(reason instanceof ApiError && reason.status === 401)) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      } else if (!(await askForKey({ refused: true }))) {
        return;
      }
    }
  }
}

startSidebar();
startComposer({ send: actions.send, stop: () => runs.get(current.id)?.controller.abort() });
startSettings({
  system: () => current.system,
  setSystem(text) {
    current.system = text;
    prefer({ system: text });
    if (current.messages.length === 0) return;
    keep(current, () => {
      current.system = text;
    });
  },
  languageChanged() {
    translatePage();
    drawCurrent();
    drawList();
  },
  toolsChanged: drawToolsOn,
  keyChanged: connect,
});
startTabs({
  answering: () => runs.keys(),
  changed(id) {
    if (id !== current.id) return;
    conversations.refresh(current);
    redraw();
  },
});
byId("new-chat", HTMLButtonElement).addEventListener("click", openNew);
byId("model", HTMLSelectElement).addEventListener("change", redraw);
toolsOn.append(icon("wrench"), element("span", { "data-i18n": "toolsOn" }), icon("x"));
toolsOn.addEventListener("click", () => {
  prefer({ tools: false });
  drawToolsOn();
  focusComposer();
});
jump.addEventListener("click", () => {
  scrollToEnd();
  jump.hidden = true;
});
scroller.addEventListener("scroll", () => {
  jump.hidden = isAtEnd();
});
// Another page of the same site has added to, renamed or deleted a conversation.
window.addEventListener("storage", ({ key, newValue }) => {
  const id = key && conversations.idOfEntry(key);
  const conversation = id && held(id);
  if (id && newValue === null) {
    forget(id);
    keepUnkept();
  } else if (conversation) {
    // The other page cannot have seen what this page wrote at the same moment. So this page writes it again, and nothing is lost.
    if (!conversations.refresh(conversation)) keep(conversation);
    if (conversation === current) redraw();
  }
  drawList();
});
// Stores the part of an unfinished answer that has arrived.
window.addEventListener("pagehide", () => {
  for (const { conversation, parent, answer, controller } of runs.values()) {
    controller.abort();
    const message = { ...answer.toMessage(), ending: /** @type {const} */ ("stopped") };
    if (!answer.isEmpty) keep(conversation, () => conversations.append(conversation, parent, message));
    tellTabs(conversation.id, { ended: true });
  }
  runs.clear();
});
// The user came back to this page.
window.addEventListener("pageshow", ({ persisted }) => {
  if (persisted) show(conversations.load(current.id) ?? current);
});
// Conversations that the browser could not store end with the page, so it asks before the user leaves.
window.addEventListener("beforeunload", (event) => {
  if (unkept.size > 0) event.preventDefault();
});

translatePage();
drawToolsOn();
show(current);
connect();
focusComposer();
