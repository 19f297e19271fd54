/** The dialogs for settings and for the API key. */

import { byId, openDialog } from "./dom.js";
import { number, t } from "./i18n.js";
import { apiKey, forgetApiKey, prefer, preferences, setApiKey } from "./preferences.js";

const keyDialog = byId("key-dialog", HTMLDialogElement);
const keyField = byId("key", HTMLInputElement);

function showTemperature() {
  byId("temperature-value", HTMLOutputElement).value = number(preferences.temperature, 2);
}

function showKey() {
  byId("key-state", HTMLElement).replaceChildren(apiKey() ? t("keyPresent") : t("keyAbsent"));
  byId("forget-key", HTMLButtonElement).hidden = !apiKey();
}

/** @param {"auto" | "light" | "dark"} theme */
function applyTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/**
 * @param {object} hooks
 * @param {() => string} hooks.system the system prompt of the conversation that is open
 * @param {(text: string) => void} hooks.setSystem
 * @param {() => void} hooks.languageChanged
 * @param {() => void} hooks.toolsChanged
 * @param {() => void} hooks.keyChanged
 */
export function startSettings({ system, setSystem, languageChanged, toolsChanged, keyChanged }) {
  const systemField = byId("system", HTMLTextAreaElement);
  const temperature = byId("temperature", HTMLInputElement);
  const maxTokens = byId("max-tokens", HTMLInputElement);
  const tools = byId("tools", HTMLInputElement);
  const language = byId("language", HTMLSelectElement);
  const theme = byId("theme", HTMLSelectElement);

  byId("open-settings", HTMLButtonElement).addEventListener("click", () => {
    systemField.value = system();
    temperature.value = String(preferences.temperature);
    maxTokens.value = preferences.maxTokens === null ? "" : String(preferences.maxTokens);
    tools.checked = preferences.tools;
    language.value = preferences.language;
    theme.value = preferences.theme;
    showTemperature();
    showKey();
    openDialog(byId("settings", HTMLDialogElement));
  });
  systemField.addEventListener("input", () => setSystem(systemField.value));
  temperature.addEventListener("input", () => {
    prefer({ temperature: temperature.valueAsNumber });
    showTemperature();
  });
  maxTokens.addEventListener("input", () => {
    prefer({ maxTokens: maxTokens.validity.valid && maxTokens.value ? maxTokens.valueAsNumber : null });
  });
  tools.addEventListener("change", () => {
    prefer({ tools: tools.checked });
    toolsChanged();
  });
  theme.addEventListener("change", () => {
    const chosen = /** @type {"auto" | "light" | "dark"} */ (theme.value);
    prefer({ theme: chosen });
    applyTheme(chosen);
  });
  language.addEventListener("change", () => {
    prefer({ language: /** @type {"auto" | "en" | "zh"} */ (language.value) });
    languageChanged();
    showTemperature();
    showKey();
  });
  byId("change-key", HTMLButtonElement).addEventListener("click", async () => {
    if (await askForKey({ refused: false })) keyChanged();
    showKey();
  });
  byId("forget-key", HTMLButtonElement).addEventListener("click", () => {
    forgetApiKey();
    showKey();
    keyChanged();
  });
  byId("key-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    keyDialog.close("given");
  });
}

/** @type {Promise<boolean> | null} */
let asking = null;

/**
 * Shows one dialog, however many requests were refused at once.
 *
 * @param {{refused: boolean}} state whether the server refused the key in use
 * @returns {Promise<boolean>} whether the user gave a key
 */
export function askForKey({ refused }) {
  asking ??= ask(refused).finally(() => {
    asking = null;
  });
  return asking;
}

/** @param {boolean} refused */
async function ask(refused) {
  byId("key-hint", HTMLElement).replaceChildren(refused && apiKey() ? t("keyRefused") : t("keyHint"));
  keyField.value = "";
  const outcome = await openDialog(keyDialog);
  if (outcome !== "given") return false;
  setApiKey(keyField.value.trim(), byId("remember", HTMLInputElement).checked);
  keyField.value = "";
  return true;
}
