// The approvals inbox: marks edits, keeps the claim alive, and moves the focus.

const RENEW_MS = 120_000;
const detail = () => document.getElementById("detail");
const approve = () => detail()?.querySelector("[data-approve]");
const fields = () => [...(detail()?.querySelectorAll("[data-edit]") ?? [])];

// Edits: old value struck through, the difference in words, their number on the button.

const control = (field) => field.querySelector("input, textarea, select");
function difference(before, after) {
  const [from, to] = [before, after].map((text) => (text.trim() === "" ? NaN : Number(text)));
  if (Number.isNaN(from) || Number.isNaN(to)) return "Edited by you";
  const places = Math.max(...[before, after].map((text) => (text.split(".")[1] ?? "").length));
  return `Edited by you, ${Math.abs(to - from).toFixed(places)} ${to > from ? "more" : "less"}`;
}

function mark(field) {
  const input = control(field);
  const before = field.dataset.proposed;
  const isEdited = input.value !== before;
  field.toggleAttribute("data-edited", isEdited);
  const old = field.querySelector("[data-old]");
  const isShort = !input.matches("textarea");
  old.textContent = isShort ? before : "";
  old.hidden = field.querySelector("[data-arrow]").hidden = !isEdited || !isShort;
  field.querySelector("[data-change]").textContent = isEdited ? difference(before, input.value) : "";
  return isEdited;
}

function count() {
  const edits = fields().filter(mark).length;
  const button = approve();
  const word = button?.querySelector("[data-word]");
  if (!word) return;
  word.dataset.plain ??= word.textContent;
  word.textContent = edits ? `${word.dataset.plain} with ${edits} edit${edits === 1 ? "" : "s"}` : word.dataset.plain;
  delete button.dataset.armed;
  const reset = detail().querySelector("[data-reset]");
  if (reset) reset.hidden = !edits;
}

document.addEventListener("input", (event) => event.target.closest("[data-edit]") && count());
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-reset]")) return;
  for (const field of fields()) control(field).value = field.dataset.proposed;
  count();
  document.getElementById("asked").focus();
});

// The buttons follow the state block, which refreshes by itself; the form around them never does.

function follow() {
  const state = document.getElementById("state");
  if (!state) return;
  const { may: mayAnswer, mayReject } = state.dataset;
  for (const element of detail().querySelectorAll("[data-answer], .bar-act .foot .danger")) {
    const may = (element.closest("#reject") ? mayReject : mayAnswer) === "yes";
    if (element.matches("summary")) element.toggleAttribute("aria-disabled", false);
    if (element.matches("summary") && !may) element.setAttribute("aria-disabled", "true");
    if (element.matches("button")) element.disabled = !may;
    element.toggleAttribute("data-decides", may && element.matches("button"));
  }
}

// A claim lasts five minutes; it is renewed only while somebody works on the page.

let renewed = Date.now();
function stir() {
  const hold = document.getElementById("hold");
  if (!hold || Date.now() - renewed < RENEW_MS) return;
  renewed = Date.now();
  hold.dispatchEvent(new Event("renew"));
}
document.addEventListener("keydown", stir);
document.addEventListener("pointerdown", stir);

function open() {
  count();
  follow();
}

document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id === "detail") document.getElementById("problem").replaceChildren();
});
document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.elt.id === "state") return follow();
  if (event.detail.elt.id !== "detail") return;
  renewed = Date.now();
  open();
  document.getElementById("asked")?.focus();
});

// The key `a` presses the button. High risk asks for it twice, because nothing takes an approval back.

document.addEventListener("keydown", (event) => event.repeat && event.key === "a" && event.preventDefault(), true);
document.addEventListener(
  "click",
  (event) => {
    const button = event.target.closest("[data-approve]");
    const isPointer = event.isTrusted; // keys.js presses with a click of its own
    if (!button || isPointer || button.dataset.risk !== "high" || button.dataset.armed) return;
    event.preventDefault();
    event.stopPropagation();
    button.dataset.armed = "yes";
    button.querySelector("[data-word]").textContent += "? Press A again";
    button.focus();
  },
  true,
);

document.body.addEventListener("htmx:historyRestore", open);
open();
