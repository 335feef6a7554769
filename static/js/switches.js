// The page refreshes by itself, but never under the hands of somebody who is about to stop something.

const isBusy = (region) =>
  region.querySelector("dialog[open], details[open]") !== null ||
  [...region.querySelectorAll("input[name=reason]")].some((input) => input.value !== "");

document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "switches" && isBusy(event.detail.target)) event.detail.shouldSwap = false;
});
