// Keeps relative times and deadlines fresh; shows local times to those who chose them.

const EVERY_MS = 15_000;
const NEAR_S = 300;
const mode = document.body.dataset.times;
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// The same words as console/words.py.
function span(seconds) {
  const s = Math.floor(Math.abs(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 6 * 3600) {
    const minutes = Math.floor((s % 3600) / 60);
    return `${Math.floor(s / 3600)} h${minutes ? ` ${minutes} min` : ""}`;
  }
  return s < 48 * 3600 ? `${Math.floor(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

function relative(seconds) {
  if (seconds > -5 && seconds < 1) return "just now";
  return seconds > 0 ? `in ${span(seconds)}` : `${span(seconds)} ago`;
}

function refresh(root) {
  for (const time of root.querySelectorAll("time.when, time[data-due]")) {
    const at = new Date(time.dateTime);
    const left = (at - Date.now()) / 1000;
    if ("due" in time.dataset) {
      set(time, left <= 0 ? `Overdue ${span(left)}` : span(left));
      time.toggleAttribute("data-over", left <= 0);
      time.toggleAttribute("data-near", left > 0 && left < NEAR_S);
    } else if (mode === "relative") set(time, relative(left));
    else if (mode === "local") set(time, local.format(at));
    if (!time.dataset.exact) {
      time.dataset.exact = "yes";
      time.title += `, ${local.format(at)} here`;
    }
  }
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

refresh(document);
setInterval(() => document.hidden || refresh(document), EVERY_MS);
document.body.addEventListener("htmx:load", (event) => event.target.querySelectorAll && refresh(event.target));
