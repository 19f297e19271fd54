/**
 * Conversations, kept in this browser only: one entry each in localStorage, so two open pages do not overwrite each other's.
 */

import { names, read, remove as removeEntry, write } from "./storage.js";

/**
 * @typedef {object} Message
 * @property {"user" | "assistant" | "tool"} role
 * @property {string} content
 * @property {import("./answer.js").ToolCall[]} [toolCalls] of an assistant
 * @property {string} [toolCallId] of a tool: the call that this is the result of
 * @property {import("./answer.js").Ending | null} [ending] of an assistant
 * @property {import("./answer.js").Stats} [stats] of an assistant
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title "" until it is named by the first message or by the user
 * @property {number} updated milliseconds since 1970
 * @property {string} system
 * @property {Message[]} messages
 */

const PREFIX = "glm.conversation.";

/** More than this many are not kept: the oldest goes. */
export const LIMIT = 100;

const TITLE_LENGTH = 60;

/**
 * @param {string} system
 * @returns {Conversation}
 */
export function create(system) {
  // crypto.randomUUID exists only on HTTPS and localhost; a server in the house is often plain HTTP.
  const id = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, title: "", updated: Date.now(), system, messages: [] };
}

/** @returns {Conversation[]} the latest first */
export function list() {
  return names(PREFIX)
    .map((name) => read(name, /** @type {Conversation | null} */ (null)))
    .filter((conversation) => conversation !== null)
    .sort((one, other) => other.updated - one.updated);
}

/**
 * @param {string} id
 * @returns {Conversation | null}
 */
export function load(id) {
  return read(PREFIX + id, null);
}

/**
 * Older conversations make room when there are too many or the browser's limit is reached.
 *
 * @param {Conversation} conversation
 * @returns {boolean} false if it cannot be kept, not even alone
 */
export function save(conversation) {
  conversation.title ||= titleOf(conversation);
  const others = list().filter((other) => other.id !== conversation.id);
  for (const surplus of others.splice(LIMIT - 1)) remove(surplus.id);
  while (true) {
    try {
      write(PREFIX + conversation.id, conversation);
      return true;
    } catch {
      const oldest = others.pop();
      if (!oldest) return false;
      remove(oldest.id);
    }
  }
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
 * @param {Conversation} conversation
 * @returns {import("./answer.js").ToolCall[]} the calls of the last answer that have no result yet
 */
export function pendingToolCalls({ messages }) {
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  if (last === -1 || messages.slice(last + 1).some(({ role }) => role === "user")) return [];
  const answered = new Set(messages.slice(last + 1).map(({ toolCallId }) => toolCallId));
  return (messages[last].toolCalls ?? []).filter(({ id }) => !answered.has(id));
}

/**
 * @param {Conversation} conversation
 * @returns {object[]} the messages as the API takes them
 */
export function toRequest({ system, messages }) {
  const answered = new Set(messages.map(({ toolCallId }) => toolCallId).filter(Boolean));
  /** @type {object[]} */
  const request = system.trim() ? [{ role: "system", content: system }] : [];
  for (const { role, content, toolCalls = [], toolCallId } of messages) {
    if (role === "assistant") {
      // A call that the user never answered must not go out: servers refuse a call without a result.
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
