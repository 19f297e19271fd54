/** What the server says about itself: whether it is ready, and its models. */

import { ApiError, health, models } from "./api.js";
import { byId, element } from "./dom.js";
import { t } from "./i18n.js";
import { prefer, preferences } from "./preferences.js";

const POLL_MS = 2000;

const banner = byId("banner", HTMLElement);
const dot = byId("dot", HTMLElement);
const select = byId("model", HTMLSelectElement);

/** @param {"ready" | "loading" | "unreachable"} state @param {string} words */
function show(state, words) {
  dot.dataset.state = state;
  dot.title = words;
  banner.hidden = state === "ready";
  if (!banner.hidden) banner.replaceChildren(words);
}

/** @type {Promise<void> | null} */
let following = null;

/** Polls the server until it is ready, in one loop for all callers. */
export function awaitReady() {
  following ??= follow().finally(() => {
    following = null;
  });
  return following;
}

async function follow() {
  while (true) {
    try {
      await health();
      show("ready", t("ready"));
      return;
    } catch (reason) {
      const error = /** @type {ApiError} */ (reason);
      const loading = error.code === "model_loading";
      if (loading) show("loading", t("loading"));
      else show("unreachable", error.message || t("unreachable"));
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Fills the list of models. The chosen model stays chosen while the server has it. */
export async function loadModels() {
  const ids = await models();
  select.replaceChildren(...ids.map((id) => element("option", { value: id }, id)));
  if (ids.includes(preferences.model)) select.value = preferences.model;
  select.title = select.value;
}

select.addEventListener("change", () => {
  prefer({ model: select.value });
  select.title = select.value;
});

/** @returns {string} the model to ask */
export function chosenModel() {
  return select.value;
}
