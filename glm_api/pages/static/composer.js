/** The box in which the user writes a message. */

import { byId } from "./dom.js";

const form = byId("composer", HTMLFormElement);
const field = byId("prompt", HTMLTextAreaElement);
const sendButton = byId("send", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);

const hasKeyboard = window.matchMedia("(hover: hover)");

/** The keyCode of a key that an input method handled. In Safari it alone marks the Enter that ends a composition. */
const TAKEN_BY_INPUT_METHOD = 229;

function fit() {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
  sendButton.disabled = field.value.trim() === "";
}

/** @param {{send: (text: string) => void, stop: () => void}} actions */
export function startComposer({ send, stop }) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (!text || sendButton.hidden) return;
    field.value = "";
    fit();
    send(text);
  });
  field.addEventListener("keydown", (event) => {
    const composing = event.isComposing || event.keyCode === TAKEN_BY_INPUT_METHOD;
    if (event.key === "Enter" && !event.shiftKey && !composing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  field.addEventListener("input", fit);
  stopButton.addEventListener("click", stop);
  fit();
}

/** @param {boolean} running whether there is an answer to stop */
export function setRunning(running) {
  const hadFocus = document.activeElement === sendButton || document.activeElement === stopButton;
  sendButton.hidden = running;
  stopButton.hidden = !running;
  if (hadFocus) focusComposer();
}

/** Focuses the box, except where a keyboard would then cover the conversation: there the user taps the box. */
export function focusComposer() {
  if (hasKeyboard.matches) field.focus();
}
