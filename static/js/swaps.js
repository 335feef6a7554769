// What a swapped region needs beside its HTML: the icons that came with the answer, and a problem that is over.

// A region cut out of a full page refers to that page's sprite. Take over the symbols this page does not have yet.
function adoptIcons(html) {
  const shelf = document.querySelector("#icons defs");
  const at = html.indexOf('<svg id="icons"');
  if (!shelf || at < 0) return;
  const sprite = new DOMParser().parseFromString(html.slice(at), "text/html");
  for (const symbol of sprite.querySelectorAll("#icons symbol")) {
    if (!document.getElementById(symbol.id)) shelf.append(document.importNode(symbol, true));
  }
}

document.body.addEventListener("htmx:beforeSwap", (event) => {
  adoptIcons(event.detail.serverResponse);
  const problem = document.getElementById("problem");
  if (event.detail.target !== problem && event.detail.requestConfig.verb !== "get") problem?.replaceChildren();
});

document.body.addEventListener("htmx:afterSwap", (event) => {
  const { target } = event.detail;
  if (target?.id === "problem") target.focus(); // a restored page has no target
});

// The network failed, so no page came back: say so in the same place, in words that can be acted on.
document.body.addEventListener("htmx:sendError", (event) => {
  const problem = document.getElementById("problem");
  if (!problem || event.detail.requestConfig.verb === "get") return;
  const box = document.createElement("div");
  box.className = "why bad";
  box.textContent = "The server could not be reached, so nothing was sent. Check the connection and try again.";
  problem.replaceChildren(box);
  problem.focus();
});
