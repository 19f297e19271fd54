/** What the user chose, and the API key. */

import { read, remove, write } from "./storage.js";

/**
 * @typedef {object} Preferences
 * @property {"auto" | "en" | "zh"} language
 * @property {"auto" | "light" | "dark"} theme
 * @property {number} temperature
 * @property {number | null} maxTokens null leaves it to the server
 * @property {boolean} tools whether to offer the example tools
 * @property {string} system the system prompt that a new conversation starts with
 * @property {string} model
 */

const NAME = "glm.preferences";
const KEY_NAME = "glm.key";

/** @type {Preferences} */
const DEFAULTS = { language: "auto", theme: "auto", temperature: 0.95, maxTokens: null, tools: false, system: "", model: "" };

/** @type {Preferences} */
export const preferences = { ...DEFAULTS, ...read(NAME, {}) };

/** @param {Partial<Preferences>} changes */
export function prefer(changes) {
  Object.assign(preferences, changes);
  write(NAME, preferences);
}

let key = read(KEY_NAME, "");

/** @returns {string} the API key, or "" */
export function apiKey() {
  return key;
}

/**
 * @param {string} value
 * @param {boolean} keep whether to store it beyond this page
 */
export function setApiKey(value, keep) {
  key = value;
  if (keep) write(KEY_NAME, value);
  else remove(KEY_NAME);
}

export function forgetApiKey() {
  setApiKey("", false);
}
