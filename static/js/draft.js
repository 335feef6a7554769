// The text that a model is writing grows in place: what stands there already is never drawn again, so a selection and
// the place one has scrolled to survive. The server always sends the whole, so no piece can be missed or come twice.
//
// Screen readers are not told of each piece: only when the run has ended, how, and what the answer is.

const REVEAL_MS = 150;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let left = null; // { node, text }: what has arrived and is not shown yet

function showRest() {
  if (left) left.node.appendData(left.text);
  left = null;
}

function reveal(node, text) {
  showRest();
  if (calm.matches || document.hidden) return node.appendData(text);
  left = { node, text };
  const step = Math.max(1, Math.ceil(text.length / (REVEAL_MS / 16)));
  const draw = () => {
    if (left?.node !== node || !node.isConnected) return;
    const box = node.parentElement.closest("#draft");
    const follows = isAtEnd(box);
    node.appendData(left.text.slice(0, step));
    left.text = left.text.slice(step);
    if (follows) box.scrollTop = box.scrollHeight;
    if (left.text) requestAnimationFrame(draw);
    else left = null;
  };
  requestAnimationFrame(draw);
}

function isAtEnd(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 24;
}

// Keep the nodes that are the same, let the last text grow, and replace the rest.
function grow(box, html) {
  showRest();
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const from = fresh.content.firstElementChild;
  const to = box.firstElementChild;
  const follows = isAtEnd(box);
  [...from.childNodes].forEach((node, place) => {
    const old = to.childNodes[place];
    if (old?.isEqualNode(node)) return;
    const grows = old?.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE && node.data.startsWith(old.data);
    if (grows) return reveal(old, node.data.slice(old.data.length));
    while (to.childNodes[place]) to.childNodes[place].remove();
    to.append(node.cloneNode(node.nodeType !== Node.TEXT_NODE));
    if (node.nodeType === Node.TEXT_NODE) {
      to.lastChild.data = "";
      reveal(to.lastChild, node.data);
    }
  });
  while (to.childNodes.length > from.childNodes.length) to.lastChild.remove();
  if (follows) box.scrollTop = box.scrollHeight;
  box.closest("[hidden]")?.removeAttribute("hidden");
}

document.body.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, serverResponse } = event.detail;
  if (target?.id === "draft" && xhr.status === 200) grow(target, serverResponse);
});

const wasFinal = document.getElementById("run-said") !== null;
document.body.addEventListener("htmx:afterSettle", () => {
  const end = document.getElementById("run-said");
  const said = document.getElementById("said");
  if (end && said && !wasFinal && !said.textContent) said.textContent = end.textContent;
});
