// Confirming: turns <details data-ask> into a native dialog, and keeps its button off until the phrase is typed.
// Without script the panel opens in place and the server checks the phrase.

function open(details) {
  const dialog = document.createElement("dialog");
  const panel = details.querySelector(".panel");
  dialog.className = "dialog";
  dialog.setAttribute("aria-labelledby", `${details.id}-title`);
  dialog.append(panel);
  details.open = false;
  details.after(dialog);
  guard(dialog.querySelector("form[data-phrase]"));
  dialog.addEventListener("close", () => {
    details.append(panel);
    dialog.remove();
    details.querySelector("summary").focus();
  });
  dialog.showModal();
  dialog.querySelector(".stack :is(input, select, textarea):not([type=hidden])")?.focus();
}

function guard(form) {
  if (!form) return;
  const typed = form.elements.phrase;
  const button = form.querySelector(".foot button:not([data-close])");
  const check = () => (button.disabled = typed.value.trim() !== form.dataset.phrase);
  typed.addEventListener("input", check);
  check();
}

document.addEventListener("click", (event) => {
  const summary = event.target.closest("[data-ask] > summary");
  if (summary) {
    event.preventDefault();
    if (summary.getAttribute("aria-disabled") !== "true") open(summary.parentElement);
    return;
  }
  const dialog = event.target.closest("dialog");
  // A click on the dialog element itself is a click on its backdrop.
  if (dialog && (event.target === dialog || event.target.closest("[data-close]"))) dialog.close();
});

// A link of the palette leads to a page with one of them open.
document.querySelectorAll("[data-ask][open]").forEach(open);

document.body?.addEventListener("htmx:afterRequest", (event) => {
  const dialog = event.target.closest?.("dialog");
  if (dialog && event.detail.elt.matches("form")) dialog.close();
});

// One open filter list at a time; Escape and a click elsewhere close it.
function closePicks(except) {
  for (const pick of document.querySelectorAll("details.pick[open]")) if (pick !== except) pick.open = false;
}
document.addEventListener("click", (event) => closePicks(event.target.closest("details.pick")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const pick = event.target.closest("details.pick[open]");
  closePicks();
  pick?.querySelector("summary").focus();
});
