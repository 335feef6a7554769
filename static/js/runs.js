// The run list and the trace: the step that is open, the way from error to error, copying an id.

const SETTLE_MS = 100; // what was just swapped in answers to events only after that

// From one failed step to the next; those of later pages are links below the steps.
function toError(step) {
  const errors = [...document.querySelectorAll(".tl tr:has(.badge.bad) [data-row], [data-error]")];
  const at = errors.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : errors.length - 1) : at + step;
  errors[Math.max(0, Math.min(errors.length - 1, next))]?.focus();
}

function showWhatNeedsScript(root) {
  for (const button of root.querySelectorAll("[data-to-error]")) button.hidden = false;
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
}

showWhatNeedsScript(document);
document.body.addEventListener("htmx:load", (event) => event.target.querySelectorAll && showWhatNeedsScript(event.target));

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-to-error], [data-copy]");
  if (!button) return;
  if (button.dataset.toError) return toError(Number(button.dataset.toError));
  await navigator.clipboard.writeText(button.dataset.copy);
  button.title = "Copied";
});

// The row of the step that was just opened; the server marks it on a full page.
document.body.addEventListener("htmx:beforeRequest", (event) => {
  const link = event.detail.elt.closest(".tl [data-row]");
  if (!link) return;
  for (const row of document.querySelectorAll(".tl [data-selected]")) {
    row.removeAttribute("data-selected");
    row.querySelector("[data-row]").removeAttribute("aria-current");
  }
  link.setAttribute("aria-current", "true");
  link.closest("tr").dataset.selected = "";
  opened = link.id;
});

// A timeline that was asked for before the reader opened a step would take the choice back. It is left out, and asked
// for again once the step is there.
let opened = "";
let leftOut = "";

document.body.addEventListener("htmx:beforeSwap", (event) => {
  const { target, requestConfig } = event.detail;
  if (!opened || target?.id !== "run-part" || (requestConfig.parameters.step ?? "") === opened) return;
  event.detail.shouldSwap = false;
  leftOut = requestConfig.elt.getAttribute("hx-trigger").split(" ")[0];
  if (document.querySelector("#inspector > [name=step]")?.value === opened) askAgain();
});

document.body.addEventListener("htmx:afterRequest", (event) => {
  if (!event.detail.elt.matches(".tl [data-row]")) return;
  if (!event.detail.successful) opened = "";
  askAgain();
});

document.body.addEventListener("htmx:historyRestore", () => {
  opened = "";
});

function askAgain() {
  if (leftOut) setTimeout((name) => document.body.dispatchEvent(new CustomEvent(name)), SETTLE_MS, leftOut);
  leftOut = "";
}

// The whole row opens the step, for the pointer only: the link is what the keyboard uses.
document.addEventListener("click", (event) => {
  const row = event.target.closest(".tl tr, .runs tr");
  if (row && !event.target.closest("a, button") && !String(getSelection())) row.querySelector("[data-row]")?.click();
});

// The head is kept current; the buttons above it follow once the run has moved (once an open dialog is closed).
document.body.addEventListener("htmx:afterSettle", () => {
  const [head, actions] = [document.getElementById("run-head"), document.getElementById("run-actions")];
  if (!head || !actions || head.dataset.state === actions.dataset.state) return;
  document.body.dispatchEvent(new CustomEvent("run-moved"));
});
