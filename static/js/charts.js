// Draws the charts of a page when they come into view. Only pages that have one load this file.
//     <div class="plot" data-chart="figure-1" data-plotly="{% static 'vendor/plotly.min.js' %}" role="img" aria-label="…"></div>
//     {{ figure|json_script:"figure-1" }}
// Colours come from our tokens, so a figure names roles: {"line": {"color": "var(--accent)"}}.

let library = null;

function load(url) {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("The chart library could not be loaded."));
    document.head.append(script);
  });
  return library;
}

const probe = document.createElement("span");

// Plotly wants plain colours: resolve var(--token), light-dark() included, through an element of the page.
function resolved(value) {
  if (typeof value === "string" && value.startsWith("var(--")) {
    probe.style.color = value;
    return getComputedStyle(probe).color;
  }
  if (Array.isArray(value)) return value.map(resolved);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
  return value;
}

function axis(extra) {
  return { gridcolor: "var(--line)", linecolor: "var(--line)", zerolinecolor: "var(--line)", tickcolor: "var(--line)", fixedrange: true, ...extra };
}

function layout(given) {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: "var(--text-2)" };
  const base = {
    font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 16, t: 8, b: 40 },
    hovermode: "x unified", hoverlabel: { bgcolor: "var(--surface)", bordercolor: "var(--line)", font },
    legend: { orientation: "h", y: -0.18 }, height: 280,
  };
  return resolved({ ...base, ...given, xaxis: axis(given.xaxis), yaxis: axis(given.yaxis) });
}

async function draw(element) {
  const figure = JSON.parse(document.getElementById(element.dataset.chart).textContent);
  try {
    const Plotly = await load(element.dataset.plotly);
    const config = { displayModeBar: false, responsive: true };
    await Plotly.react(element, resolved(figure.data), layout(figure.layout ?? {}), config);
  } catch (failure) {
    const note = document.createElement("p");
    note.textContent = `${failure.message} The table has the same figures.`;
    element.replaceChildren(note);
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    draw(target);
  }
});

function watch(root) {
  probe.hidden = true;
  document.body.append(probe);
  root.querySelectorAll("[data-chart]").forEach((element) => seen.observe(element));
}

// New figures may arrive without their chart: the ones drawn already take them over in place.
function refresh(root) {
  for (const { id } of root.querySelectorAll("script[type='application/json']")) {
    const drawn = document.querySelector(`[data-chart="${CSS.escape(id)}"].js-plotly-plot`);
    if (drawn) draw(drawn);
  }
}

watch(document);
document.body.addEventListener("htmx:load", (event) => {
  if (!event.target.querySelectorAll) return;
  watch(event.target);
  refresh(event.target);
});
const redraw = () => document.querySelectorAll("[data-chart].js-plotly-plot").forEach(draw);
document.addEventListener("theme:changed", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
