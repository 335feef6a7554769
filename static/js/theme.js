// Switches the theme at once and tells the server, which keeps it in a cookie. Without script the form does both.

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-theme-toggle]") || !event.submitter) return;
  event.preventDefault();
  const theme = event.submitter.value;
  document.documentElement.dataset.theme = theme;
  form.querySelector(`.to-${theme === "dark" ? "light" : "dark"}`).focus();
  document.dispatchEvent(new CustomEvent("theme:changed", { detail: { theme } }));
  await fetch(form.action, { method: "POST", body: new FormData(form, event.submitter), redirect: "manual" });
});
