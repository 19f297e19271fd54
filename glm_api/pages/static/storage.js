/**
 * localStorage that never throws. Where the browser forbids localStorage, values last as long as the page.
 */

/** @returns {Storage | null} */
function open() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

const local = open();
/** @type {Map<string, string>} */
const memory = new Map();

/**
 * @template T
 * @param {string} name
 * @param {T} fallback the result if there is no value, or no readable one
 * @returns {T}
 */
export function read(name, fallback) {
  const text = local ? local.getItem(name) : memory.get(name);
  try {
    return text == null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {boolean} false if the browser has no room for it; then the old value stays
 */
export function write(name, value) {
  const text = JSON.stringify(value);
  try {
    if (local) local.setItem(name, text);
    else memory.set(name, text);
    return true;
  } catch {
    return false;
  }
}

/** @param {string} name */
export function remove(name) {
  if (local) local.removeItem(name);
  else memory.delete(name);
}

/**
 * @param {string} prefix
 * @returns {string[]} the names that begin with the prefix
 */
export function names(prefix) {
  return (local ? Object.keys(local) : [...memory.keys()]).filter((name) => name.startsWith(prefix));
}
