/** Example tools that show how a model calls functions. The user gives the results; the page proposes one if it can. */

import { t } from "./i18n.js";

/**
 * @param {string} name
 * @param {string} description
 * @param {Record<string, object>} properties
 */
function declare(name, description, properties) {
  return {
    type: "function",
    function: { name, description, parameters: { type: "object", properties, required: Object.keys(properties) } },
  };
}

export const TOOLS = [
  declare("get_weather", "Get the current weather of a city", { city: { type: "string", description: "The name of the city" } }),
  declare("get_time", "Get the current date and time", {}),
];

/**
 * @param {string} name
 * @returns {string} a proposed result, or ""
 */
export function proposeResult(name) {
  if (name === "get_time") return JSON.stringify({ time: new Date().toString() });
  if (name === "get_weather") return JSON.stringify({ temperature: 21, unit: "celsius", condition: t("sunny") });
  return "";
}

/**
 * @param {string} text the arguments of a call, perhaps still arriving
 * @returns {string} indented if it is JSON, otherwise unchanged
 */
export function prettyArguments(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
