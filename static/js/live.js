// Keeps a page current: the socket says what changed, the regions ask over HTTP what it is now.
//
// A region names its topic in its htmx trigger and nothing else is needed:
//     <section id="run" hx-get="/runs/run_01…/" hx-select="#run" hx-swap="outerHTML"
//              hx-trigger="live:run:run_01… from:body">
// htmx reads an event's name up to the next space, comma or bracket, so colons inside it are fine. Add no throttle:
// this file already gathers a topic's notices (at most two a second, never losing the last), which htmx's would lose.
//
// States: live, reconnecting, polling (after two failed connects), offline. In each but offline every topic of the
// page is also asked again every 20 s, that of a single object every 5 s: so long a lost notice costs at most. "Live" is
// shown once the server has said that it listens: from then on no notice is missed.

const CATCH_UP_MS = 5_000; // a single object: somebody waits for what becomes of it; once it is final nothing is asked
const LISTS_EVERY = 4; // of these rounds
const GATHER_MS = 500;
const GATHER_DRAFT_MS = 100; // text that is being written: little to fetch, and it should be seen growing
const SETTLE_MS = 100; // a region that was swapped in hears notices only after htmx has settled it (20 ms)
const LONGEST_WAIT_MS = 30_000;
const SESSION_ENDED = 4401;
const WORDS = { live: "Live", reconnecting: "Reconnecting", polling: "Updating every 20 s", offline: "Offline" };

let socket = null;
let retry = 0;
let failures = 0;
let told = "";
let asked = []; // what each message to the server asked for that it has not answered yet
let heard = new Set(); // topics the server listens for
let hadGap = false;
let state = "";
const waiting = new Map(); // topic -> timer; the topic fires once more when it ends if `again` was set
const missed = new Set(); // topics that changed while the tab was hidden
const asking = new Set(); // regions with a request under way
const overtaken = new Set(); // topics that changed while a region was asking about them

function topics() {
  const found = new Set();
  for (const element of document.querySelectorAll("[hx-trigger*='live:']")) {
    for (const match of element.getAttribute("hx-trigger").matchAll(/(?:^|[\s,])live:([^\s,[]+)/g)) found.add(match[1]);
  }
  return found;
}

// Whether a region is being asked for that listens to the topic, or that holds one which does and would be replaced.
function isAsking(topic) {
  return [...asking].some((region) =>
    [region, ...region.querySelectorAll("[hx-trigger*='live:']")].some((one) => listens(one, topic)),
  );
}

function listens(region, topic) {
  return ` ${region.getAttribute("hx-trigger") ?? ""} `.includes(` live:${topic} `);
}

// The answer under way may be older than this notice, and it will swap the region away together with what htmx has
// queued on it. So the notice waits until the new region is there.
function fire(topic) {
  if (document.hidden) missed.add(topic);
  else if (isAsking(topic)) overtaken.add(topic);
  else document.body.dispatchEvent(new CustomEvent(`live:${topic}`, { detail: { topic } }));
}

function changed(topic) {
  const timer = waiting.get(topic);
  if (timer) {
    timer.again = true;
    return;
  }
  fire(topic);
  const gathering = { again: false };
  waiting.set(topic, gathering);
  setTimeout(() => {
    waiting.delete(topic);
    if (gathering.again) changed(topic);
  }, topic.startsWith("draft:") ? GATHER_DRAFT_MS : GATHER_MS);
}

function show(next) {
  if (next === state) return;
  state = next;
  for (const indicator of document.querySelectorAll("[data-live]")) paint(indicator);
  const isOffline = state === "offline";
  for (const banner of document.querySelectorAll("[data-offline]")) banner.hidden = !isOffline;
  // Only what we switch off is switched on again: a button may be off for reasons of its own.
  for (const button of document.querySelectorAll(isOffline ? "[data-decides]:enabled" : "[data-decides][data-held]")) {
    button.disabled = isOffline;
    button.toggleAttribute("data-held", isOffline);
    button.title = isOffline ? "You are offline, so this cannot be sent." : "";
  }
}

function paint(indicator) {
  indicator.dataset.state = state;
  indicator.textContent = WORDS[state];
  indicator.hidden = !state;
}

function tell() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const message = JSON.stringify({ topics: [...topics()].sort() });
  if (message === told) return;
  told = message;
  asked.push(topics());
  socket.send(message);
}

// What happened between the page's rendering and now was told to nobody. Single objects (`run:…`) move fast right after
// their page opens, so they are asked again at once; lists wait for their next notice, unless the line was cut before.
function listening() {
  const isBack = hadGap && heard.size === 0;
  const added = [...asked[0]].filter((topic) => !heard.has(topic));
  heard = asked.shift();
  hadGap = true;
  show("live");
  added.filter((topic) => isBack || topic.includes(":")).forEach(fire);
}

function connect() {
  clearTimeout(retry);
  retry = 0;
  if (!navigator.onLine) return show("offline");
  if (socket || topics().size === 0) return;
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live/`);
  socket.onopen = () => {
    failures = 0;
    told = "";
    asked = [];
    heard = new Set();
    tell();
  };
  socket.onmessage = (event) => {
    const answer = JSON.parse(event.data);
    if (answer.listening) listening();
    else changed(answer.topic);
  };
  socket.onclose = (event) => {
    socket = null;
    if (event.code === SESSION_ENDED) return location.reload();
    failures += 1;
    show(!navigator.onLine ? "offline" : failures > 2 ? "polling" : "reconnecting");
    retry = setTimeout(connect, Math.random() * Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures));
  };
}

let rounds = 0;
setInterval(() => {
  rounds += 1;
  if (state === "offline") return;
  [...topics()].filter((topic) => topic.includes(":") || rounds % LISTS_EVERY === 0).forEach(fire);
}, CATCH_UP_MS);

// An open dialog, or details that somebody reads, are not taken away: what would have come in their place is asked for
// once they are closed. That goes for every event a region waits for, not only for notices.
const held = new WeakMap(); // what is open -> the events that came meanwhile

function openIn(region) {
  return region.querySelector?.("dialog[open], details[data-hold][open]");
}

function hold(open, events) {
  if (!held.has(open)) {
    held.set(open, new Set());
    open.addEventListener(open.localName === "dialog" ? "close" : "toggle", () => renew(open), { once: true });
  }
  for (const name of events) held.get(open).add(name);
}

function renew(closed) {
  const events = held.get(closed);
  held.delete(closed);
  setTimeout(() => {
    for (const name of events) {
      if (name.startsWith("live:")) fire(name.slice("live:".length));
      else document.body.dispatchEvent(new CustomEvent(name));
    }
  }, SETTLE_MS);
}

function isHeld(region) {
  const open = openIn(region);
  const events = open ? [...(region.getAttribute("hx-trigger") ?? "").matchAll(/([^\s,]+) from:body/g)] : [];
  if (events.length > 0) hold(open, events.map((event) => event[1]));
  return events.length > 0;
}

document.body.addEventListener("htmx:confirm", (event) => {
  if (isHeld(event.detail.elt)) event.preventDefault();
});
// Opened while the answer was on its way.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (isHeld(event.detail.requestConfig.elt)) event.detail.shouldSwap = false;
});
// Renewed by the answer of another region.
document.body.addEventListener("htmx:oobBeforeSwap", (event) => {
  const open = openIn(event.detail.target);
  if (!open) return;
  event.detail.shouldSwap = false;
  hold(open, [...topics()].map((topic) => `live:${topic}`));
});

document.body.addEventListener("htmx:beforeRequest", (event) => asking.add(event.detail.requestConfig.elt));
document.body.addEventListener("htmx:afterRequest", (event) => {
  setTimeout(() => {
    asking.delete(event.detail.requestConfig.elt);
    const late = [...overtaken];
    overtaken.clear();
    late.forEach(fire);
  }, SETTLE_MS);
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  const late = [...missed];
  missed.clear();
  late.forEach(fire);
});
addEventListener("offline", () => show("offline"));
addEventListener("online", () => {
  // A socket that was open when the network left may look open for minutes: start over.
  if (socket) {
    socket.onclose = null;
    socket.close();
    socket = null;
  }
  show("reconnecting");
  connect();
});
document.body.addEventListener("htmx:load", (event) => {
  if (socket) tell();
  else if (!retry) connect();
  for (const indicator of event.target.querySelectorAll?.("[data-live]") ?? []) if (state) paint(indicator);
});

connect();
