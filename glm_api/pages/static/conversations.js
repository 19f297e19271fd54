/**
 * Conversations, stored in this browser only: one entry each in localStorage.
 *
 * The messages of a conversation are a tree: each names the message that it follows. A regenerated answer or an edited
 * question is another message after the same one, so nothing is replaced: the two are versions. A message never changes,
 * and it stays as long as its conversation. So two pages with the same conversation lose nothing: everything that either
 * of them wrote is stored.
 */

import { names, read, remove as removeEntry, write } from "./storage.js";

/**
 * @typedef {object} NewMessage
 * @property {"user" | "assistant" | "tool"} role
 * @property {string} content
 * @property {string} [reasoning] of an assistant: what the model thought before; it is shown and never sent
 * @property {import("./answer.js").ToolCall[]} [toolCalls] of an assistant
 * @property {string} [toolCallId] of a tool: the call of which this is the result
 * @property {import("./answer.js").Ending | null} [ending] of an assistant
 * @property {import("./answer.js").Stats} [stats] of an assistant
 *
 * @typedef {NewMessage & {id: string, parent: string | null}} Message `parent` is the id of the message before it
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title "" until the first message or the user names it
 * @property {number} updated milliseconds since 1970
 * @property {string} system
 * @property {Message[]} messages all versions, in the order in which they were written
 * @property {string | null} head the id of the last message that is shown; the messages before it are shown too
 */

const PREFIX = "glm.conversation.";

const TITLE_LENGTH = 60;

function newId() {
  // crypto.randomUUID exists only on HTTPS and localhost, but a server on a local network often uses plain HTTP.
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} system
 * @returns {Conversation}
 */
export function create(system) {
  return { id: newId(), title: "", updated: Date.now(), system, messages: [], head: null };
}

/** @returns {Pick<Conversation, "id" | "title" | "updated">[]} the stored ones */
export function list() {
  return names(PREFIX)
    .map((name) => read(name, /** @type {Conversation | null} */ (null)))
    .filter((conversation) => conversation !== null);
}

/**
 * @param {string} id
 * @returns {Conversation | null}
 */
export function load(id) {
  const stored = read(PREFIX + id, /** @type {Conversation | null} */ (null));
  return stored && upgrade(stored);
}

/**
 * Gives ids to the messages of older versions, which were a plain list. The ids must be the same in each page that does this.
 *
 * @param {Conversation} conversation
 */
function upgrade(conversation) {
  /** @type {string | null} */
  let before = null;
  for (const [index, message] of conversation.messages.entries()) {
    if (message.id === undefined) {
      message.id = `m${index}`;
      message.parent = before;
      conversation.head = message.id;
    }
    before = message.id;
  }
  return conversation;
}

/**
 * @param {string} name of an entry in localStorage
 * @returns {string | null} the id of the conversation, if it is one
 */
export function idOfEntry(name) {
  return name.startsWith(PREFIX) ? name.slice(PREFIX.length) : null;
}

/**
 * Merges what another page has written since.
 *
 * @param {Conversation} conversation
 * @returns {boolean} whether everything is stored, the messages of this page too
 */
export function refresh(conversation) {
  const stored = load(conversation.id);
  if (!stored) return false;
  const kept = new Set(stored.messages.map(({ id }) => id));
  const unkept = conversation.messages.filter(({ id }) => !kept.has(id));
  // Shows what follows the end that is shown; never replaces it by another version.
  if (branch(stored, stored.head).some(({ id }) => id === conversation.head)) conversation.head = stored.head;
  conversation.messages = [...stored.messages, ...unkept];
  conversation.title = stored.title;
  conversation.system = stored.system;
  conversation.updated = Math.max(stored.updated, conversation.updated);
  return unkept.length === 0;
}

/**
 * Changes the current state of a conversation, whoever wrote it last, and stores it.
 *
 * @param {Conversation} conversation
 * @param {(conversation: Conversation) => void} [mutate]
 * @returns {boolean} false if the browser has no room for it
 */
export function change(conversation, mutate = () => {}) {
  refresh(conversation);
  mutate(conversation);
  conversation.title ||= titleOf(conversation);
  return write(PREFIX + conversation.id, conversation);
}

/** @param {string} id */
export function remove(id) {
  removeEntry(PREFIX + id);
}

/** @param {Conversation} conversation */
function titleOf({ messages }) {
  const text = messages.find(({ role }) => role === "user")?.content.trim().replace(/\s+/g, " ") ?? "";
  const characters = [...text];
  return characters.length > TITLE_LENGTH ? `${characters.slice(0, TITLE_LENGTH).join("")}…` : text;
}

/**
 * Adds a message and shows it.
 *
 * @param {Conversation} conversation
 * @param {string | null} parent the id of the message that it follows
 * @param {NewMessage} message
 */
export function append(conversation, parent, message) {
  conversation.head = newId();
  conversation.messages.push({ ...message, id: conversation.head, parent });
  conversation.updated = Date.now();
}

/**
 * @param {Conversation} conversation
 * @param {string | null} head
 * @returns {Message[]} the messages up to this one, the first one first
 */
export function branch({ messages }, head) {
  const byId = new Map(messages.map((message) => [message.id, message]));
  /** @type {Message[]} */
  const found = [];
  for (let id = head; id !== null; ) {
    const message = byId.get(id);
    if (!message) break;
    byId.delete(id);
    found.unshift(message);
    id = message.parent;
  }
  return found;
}

/**
 * @param {Conversation} conversation
 * @param {Message} message
 * @returns {Message[]} all versions of it, itself included, the oldest first
 */
export function versions({ messages }, { parent }) {
  return messages.filter((other) => other.parent === parent);
}

/**
 * @param {Conversation} conversation
 * @param {Message} message
 * @returns {string} the id of the newest message behind this one
 */
export function newestAfter({ messages }, message) {
  let { id } = message;
  while (true) {
    const next = messages.findLast(({ parent }) => parent === id);
    if (!next) return id;
    ({ id } = next);
  }
}

/**
 * @param {Message[]} messages a branch
 * @returns {import("./answer.js").ToolCall[]} the calls of the last answer that have no result yet
 */
export function pendingToolCalls(messages) {
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  if (last === -1 || messages.slice(last + 1).some(({ role }) => role === "user")) return [];
  const answered = new Set(messages.slice(last + 1).map(({ toolCallId }) => toolCallId));
  return (messages[last].toolCalls ?? []).filter(({ id }) => !answered.has(id));
}

/**
 * @param {string} system
 * @param {Message[]} messages a branch
 * @returns {object[]} the messages as the API takes them
 */
export function toRequest(system, messages) {
  const answered = new Set(messages.map(({ toolCallId }) => toolCallId).filter(Boolean));
  /** @type {object[]} */
  const request = system.trim() ? [{ role: "system", content: system }] : [];
  for (const { role, content, toolCalls = [], toolCallId } of messages) {
    if (role === "assistant") {
      // A call that the user never answered must not be sent: servers refuse a call without a result.
      const calls = toolCalls.filter(({ id }) => answered.has(id));
      if (calls.length > 0) request.push({ role, content: content || null, tool_calls: calls });
      else if (content) request.push({ role, content });
    } else if (role === "tool") {
      request.push({ role, tool_call_id: toolCallId, content });
    } else {
      request.push({ role, content });
    }
  }
  return request;
}

/**
 * @param {Conversation} conversation
 * @param {Record<Message["role"], string>} headings
 * @returns {string} the part of it that is shown, as Markdown
 */
export function toMarkdown(conversation, headings) {
  const parts = branch(conversation, conversation.head).map(({ role, content, toolCalls = [] }) => {
    const calls = toolCalls.map(({ function: { name, arguments: text } }) => `\`${name}(${text})\``);
    return [`## ${headings[role]}`, content, ...calls].filter(Boolean).join("\n\n");
  });
  return `${[`# ${conversation.title}`, ...parts].join("\n\n")}\n`;
}
