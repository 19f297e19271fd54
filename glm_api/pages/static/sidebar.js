/** The list of conversations. */

import { byId, element, iconButton, openDialog } from "./dom.js";
import { t } from "./i18n.js";

const layout = byId("layout", HTMLElement);
const rows = byId("conversations", HTMLUListElement);
const emptyHint = byId("no-conversations", HTMLElement);
const toggle = byId("toggle-sidebar", HTMLButtonElement);
const narrow = window.matchMedia("(max-width: 760px)");

/** @typedef {Pick<import("./conversations.js").Conversation, "id" | "title">} Conversation */

/**
 * @typedef {object} SidebarActions
 * @property {(id: string) => void} open
 * @property {(id: string, title: string) => void} rename
 * @property {(id: string) => void} remove
 */

/**
 * @param {Conversation[]} conversations
 * @param {string} current
 * @param {SidebarActions} actions
 */
export function drawSidebar(conversations, current, actions) {
  emptyHint.hidden = conversations.length > 0;
  rows.replaceChildren(...conversations.map((conversation) => drawRow(conversation, conversation.id === current, actions)));
}

/**
 * @param {Conversation} conversation
 * @param {boolean} isCurrent
 * @param {SidebarActions} actions
 */
function drawRow({ id, title }, isCurrent, { open, rename, remove }) {
  const name = title || t("untitled");
  const row = element("li", { class: isCurrent && "current" });
  const drawPlain = () =>
    row.replaceChildren(
      element("button", { class: "open", type: "button", title: name, "aria-current": isCurrent && "page", click: () => open(id) }, name),
      iconButton("pencil", t("rename"), drawRename),
      iconButton("trash-2", t("delete"), async () => {
        byId("delete-name", HTMLElement).replaceChildren(name);
        if ((await openDialog(byId("delete-dialog", HTMLDialogElement))) === "yes") remove(id);
      }),
    );
  const drawRename = () => {
    const field = element("input", { type: "text", maxlength: 100, "aria-label": t("rename"), value: name });
    let done = false;
    /** @param {boolean} keep */
    const finish = (keep) => {
      // Removing the field blurs it, which would finish a second time.
      if (done) return;
      done = true;
      if (keep && field.value.trim()) rename(id, field.value.trim());
      else drawPlain();
    };
    field.addEventListener("blur", () => finish(true));
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") finish(true);
      if (event.key === "Escape") finish(false);
    });
    row.replaceChildren(field);
    field.select();
  };
  drawPlain();
  return row;
}

/** @param {boolean} open */
function setOpen(open) {
  layout.dataset.sidebar = open ? "open" : "closed";
  toggle.setAttribute("aria-expanded", String(open));
}

/** Closes the list after a choice on a narrow screen, where it covers the conversation. */
export function closeIfNarrow() {
  if (narrow.matches) setOpen(false);
}

export function startSidebar() {
  setOpen(!narrow.matches);
  narrow.addEventListener("change", () => setOpen(!narrow.matches));
  toggle.addEventListener("click", () => {
    const open = layout.dataset.sidebar !== "open";
    setOpen(open);
    if (open && narrow.matches) byId("close-sidebar", HTMLButtonElement).focus();
  });
  const close = () => {
    setOpen(false);
    toggle.focus();
  };
  byId("close-sidebar", HTMLButtonElement).addEventListener("click", close);
  byId("backdrop", HTMLElement).addEventListener("click", close);
  byId("sidebar", HTMLElement).addEventListener("keydown", (event) => {
    if (event.key === "Escape" && narrow.matches) close();
  });
}
