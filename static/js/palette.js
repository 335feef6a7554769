// The palette behind Ctrl K: the search page's results in a dialog. Without script the link opens that page.

const link = document.querySelector("[data-palette]");
let box = null;
let latest = 0;

function build() {
  const dialog = document.createElement("dialog");
  dialog.className = "palette";
  dialog.setAttribute("aria-label", "Search or jump to");
  const label = document.createElement("label");
  label.className = "field";
  const input = document.createElement("input");
  for (const [name, value] of Object.entries({
    type: "text", role: "combobox", placeholder: "A page, a run, an approval", autocomplete: "off", spellcheck: "false",
    "aria-label": "Search or jump to", "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list",
  })) input.setAttribute(name, value);
  label.append(input);
  const list = document.createElement("ul");
  list.id = "palette-list";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Results");
  dialog.append(label, list);
  dialog.addEventListener("close", () => { dialog.remove(); box = null; });
  dialog.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) location.href = option.dataset.href;
    else if (event.target === dialog) dialog.close();
  });
  input.addEventListener("input", () => search(input.value));
  input.addEventListener("keydown", onKey);
  document.body.append(dialog);
  return { dialog, input, list };
}

function onKey(event) {
  const options = [...box.list.querySelectorAll("[role=option]")];
  const at = options.findIndex((option) => option.ariaSelected === "true");
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    select(options, (at + (event.key === "ArrowDown" ? 1 : -1) + options.length) % (options.length || 1));
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (options[at]) location.href = options[at].dataset.href;
  }
}

function select(options, index) {
  options.forEach((option, i) => option.setAttribute("aria-selected", String(i === index)));
  if (options[index]) {
    box.input.setAttribute("aria-activedescendant", options[index].id);
    options[index].scrollIntoView({ block: "nearest" });
  } else box.input.removeAttribute("aria-activedescendant");
}

async function search(text) {
  const mine = ++latest;
  const answer = await fetch(`${link.getAttribute("href")}?q=${encodeURIComponent(text)}`, { redirect: "error" }).catch(() => null);
  if (mine !== latest || !box || !answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const options = [...page.querySelectorAll("#results a")].map((found, index) => {
    const option = document.createElement("li");
    option.id = `palette-${index}`;
    option.setAttribute("role", "option");
    option.dataset.href = found.getAttribute("href");
    option.append(...[...found.childNodes].map((node) => document.importNode(node, true)));
    return option;
  });
  adopt(page);
  box.list.replaceChildren(...options);
  select(options, 0);
}

function adopt(page) {
  const shelf = document.querySelector("#icons defs");
  for (const symbol of page.querySelectorAll("#icons symbol")) {
    if (!document.getElementById(symbol.id)) shelf.append(document.importNode(symbol, true));
  }
}

function show() {
  if (box) return;
  box = build();
  box.dialog.showModal();
  box.input.focus();
  search("");
}

if (link) {
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    show();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
    event.preventDefault();
    show();
  });
}
