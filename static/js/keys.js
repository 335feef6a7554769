// One table of keys. It drives the handler and the sheet behind `?`, so no hint can name a key that does nothing.
// A screen adds a key by marking what it presses: <button data-key="a" data-key-label="Approve">.

const isOn = () => document.body.dataset.keys !== "off";
const rows = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.checkVisibility());

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  const from = at < 0 ? all.findIndex((row) => row.closest("[aria-current]")) : at;
  all[Math.max(0, Math.min(all.length - 1, from < 0 ? 0 : from + step))].focus();
}

const table = [
  { key: "/", label: "Filter the list", run: () => document.querySelector("[data-filter], input[type=search]")?.focus() },
  { key: "j", label: "Next row", run: () => move(1) },
  { key: "k", label: "Previous row", run: () => move(-1) },
  { key: "Enter", label: "Open the row", run: null }, // a row is a link
  { key: "t", label: "Switch theme", run: switchTheme },
  { key: "?", label: "All keys", run: showSheet },
];

for (const link of document.querySelectorAll("[data-go]")) {
  const name = link.querySelector(".clip").textContent;
  table.push({ key: `g ${link.dataset.go}`, label: `Go to ${name}`, run: () => (location.href = link.href) });
}

// Asked at each key press, because a swap may bring other buttons.
function keysOfScreen() {
  const shown = [...document.querySelectorAll("[data-key]")].filter((one) => one.checkVisibility());
  return shown.map((one) => ({ key: one.dataset.key, label: one.dataset.keyLabel || one.textContent.trim(), run: () => press(one) }));
}

function press(element) {
  if (element.matches("input, select, textarea")) element.focus();
  else element.click();
}

function switchTheme() {
  const button = [...document.querySelectorAll("[data-theme-toggle] button")].find((one) => one.checkVisibility());
  button?.click();
}

function showSheet() {
  const dialog = document.createElement("dialog");
  dialog.className = "dialog keysheet";
  dialog.setAttribute("aria-labelledby", "keysheet-title");
  const head = document.createElement("h2");
  head.className = "t16";
  head.id = "keysheet-title";
  head.textContent = "Keys";
  const list = document.createElement("dl");
  for (const { key, label } of [...keysOfScreen(), { key: "Ctrl K", label: "Search or jump to" }, ...table]) {
    const term = document.createElement("dt");
    for (const part of key.split(" ")) term.append(Object.assign(document.createElement("kbd"), { textContent: part }), " ");
    list.append(term, Object.assign(document.createElement("dd"), { textContent: label }));
  }
  const foot = document.createElement("div");
  foot.className = "foot";
  const close = Object.assign(document.createElement("button"), { className: "btn", type: "button", textContent: "Close" });
  close.addEventListener("click", () => dialog.close());
  foot.append(close);
  dialog.append(head, list, foot);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

const isTyping = (element) => element.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
let pending = "";
let pendingTimer = 0;

document.addEventListener("keydown", (event) => {
  if (!isOn() || event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
  if (isTyping(event.target) || document.querySelector("dialog[open]")) {
    if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
    return;
  }
  const pressed = pending ? `${pending} ${event.key}` : event.key;
  pending = "";
  clearTimeout(pendingTimer);
  if (pressed === "g") {
    pending = "g";
    pendingTimer = setTimeout(() => (pending = ""), 1500);
    return;
  }
  const arrow = { ArrowDown: "j", ArrowUp: "k" }[pressed];
  const wanted = arrow && document.activeElement.matches("[data-row]") ? arrow : pressed;
  const entry = [...keysOfScreen(), ...table].find((one) => one.key === wanted);
  if (!entry?.run) return;
  event.preventDefault();
  entry.run(event);
});
