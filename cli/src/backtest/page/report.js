// Draws the report of a backtest from the JSON within the page. Text is always text: nothing of the report is read as markup.

const report = JSON.parse(document.getElementById("report").textContent);
const { settings, load, runs, timeline } = report;

const part = (name, inner = ".body") => document.querySelector(`[data-testid="${name}"] ${inner}`);

function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// ——— Numbers and times, for people ———

const digits = (value, most) => value.toLocaleString("en", { maximumFractionDigits: most });
const amount = (value) => digits(value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
/** A share in per cent, with as many digits as tell it from all and from nothing. */
function percent(share) {
  const off = Math.min(share, 1 - share) * 100;
  if (off === 0) return `${share * 100} %`;
  const places = off < 0.1 ? 3 : off < 1 ? 2 : 1;
  return `${Math.min(share * 100, 99.999).toFixed(places)} %`;
}
const seconds = (s) => (s >= 120 && s % 60 === 0 ? `${s / 60} min` : s < 1 ? `${Math.round(s * 1000)} ms` : `${digits(s, 2)} s`);
const clock = (at) => at.slice(0, 16).replace("T", " ");
/** Plotly takes a time without a zone as it stands, which is what UTC should look like. */
const plain = (millis) => new Date(millis).toISOString().slice(0, 19);
const money = (value) => digits(value, value >= 100 ? 0 : 2);

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const faded = (name, opacity) => css(name) + Math.round(opacity * 255).toString(16).padStart(2, "0");
const narrow = () => innerWidth < 620;
const touched = matchMedia("(pointer: coarse)").matches;

/** Policies in their order, with their names without a setting. */
const titles = Object.fromEntries(runs.map((run) => [run.policy, run.name.split(",")[0]]));

// ——— Text ———

function drawSummary() {
  part("source", "").textContent = report.source;
  const facts = [
    ["requests", digits(load.requests, 0)], ["scored", `${clock(load.from)} to ${clock(load.to)} UTC`],
    ["mean", `${amount(load.mean_rps)} req/s`], ["peak", `${amount(load.peak_rps)} req/s, ${digits(load.peak_replicas, 1)} replicas busy`],
  ];
  part("summary").replaceChildren(...h("div", {},
    h("p", { class: "say" }, report.summary),
    h("p", { class: "facts" }, facts.map(([name, value]) => h("span", {}, `${name} `, h("b", {}, value)))),
    report.notes.length > 0 && h("ul", { class: "warnings" }, report.notes.map((note) => h("li", {}, note))),
  ).children);
}

const badge = (run) => h("span", { class: "name", style: `--hue: var(--${run.policy})` }, h("i"), run.name);

function drawPolicies() {
  const priced = settings.price !== null;
  const head = ["Policy", "In time", "Replica-hours", "× oracle", ...(priced ? ["Cost"] : []), "Actions/h", "Late in the worst hour"];
  const row = (run) => h("tr", { class: run.policy === "tidegate" ? "own" : null },
    h("td", {}, badge(run)),
    h("td", { class: `num ${run.kept ? "kept" : "failed"}` }, `${percent(run.attained)} ${run.kept ? "✓" : "✗"}`),
    h("td", { class: "num" }, amount(run.replica_hours)),
    h("td", { class: "num" }, run.relative_to_oracle === null ? "–" : run.relative_to_oracle.toFixed(2)),
    priced && h("td", { class: "num" }, money(run.cost)),
    h("td", { class: "num" }, amount(run.actions_per_hour)),
    h("td", { class: "num" }, run.worst_hour ? digits(run.worst_hour.missed, 0) : "–"));
  part("policies").replaceChildren(
    h("table", {},
      h("thead", {}, h("tr", {}, head.map((name, i) => h("th", { class: i ? "num" : null }, name)))),
      h("tbody", {}, runs.filter((run) => run.usual).map(row))),
    h("p", { class: "hint", style: "padding-left: 8px" },
      `✓ kept the target: ${percent(settings.target)} of requests ${settings.engine === null ? "" : "with their first token "}within ${seconds(settings.slo_s)}${settings.engine === null ? "" : ` and further ones within ${digits(1000 * settings.engine.tpot_s, 3)} ms`}. × oracle: against what one that knows the future needs for it.`));
}

function pairs(rows) {
  return h("table", { class: "pairs" }, h("tbody", {}, rows.map(([name, value]) => h("tr", {}, h("th", {}, name), h("td", {}, value)))));
}

function servedRows() {
  return [
    ["In time", `within ${seconds(settings.slo_s)}, ${percent(settings.target)} of requests`],
    ["A request is served for", `${seconds(settings.service_time_s)} on average`],
    ["A replica serves", `${settings.concurrency} at a time, ${amount(settings.replica_rps)} req/s when busy`],
  ];
}

function engineRows(engine) {
  const ms = (s) => `${digits(1000 * s, 3)} ms`;
  return [
    ["In time", `first token within ${seconds(settings.slo_s)}, further ones within ${ms(engine.tpot_s)} on average, ${percent(settings.target)} of requests`],
    ["A request has", `${amount(engine.prompt_tokens)} prompt and ${amount(engine.output_tokens)} output tokens on average`],
    ["An iteration takes", `${ms(engine.iteration_s)}, ${ms(engine.running_s)} more a request, ${ms(engine.prompt_token_s)} more a prompt token`],
    ["A replica has", `${engine.batch} requests or ${amount(engine.kv_tokens)} tokens at most, reads ${amount(engine.chunk)} at a time`],
    ["When busy it serves", `${amount(settings.replica_rps)} req/s`],
  ];
}

function drawSettings() {
  const { replicas } = settings;
  part("settings").replaceChildren(pairs([
    ...(settings.engine === null ? servedRows() : engineRows(settings.engine)),
    ["A replica starts in", `${seconds(settings.start_up_s)} (median)`],
    ["Replicas", `${replicas.min} to ${replicas.max}`],
    ["Load multiplied by", digits(settings.scale, 4)],
    ["Step of the load", seconds(load.step_s)],
    ["History before", load.history_from === null ? "none" : `from ${clock(load.history_from)} UTC`],
    ...(settings.price === null ? [] : [["A replica-hour costs", digits(settings.price, 4)]]),
    ["Seed", String(settings.seed)],
    ["Tidegate", report.tidegate],
  ]));
  part("method").replaceChildren(...report.method.map((text) => h("p", {}, text)));
}

// ——— Charts ———

function frame(more) {
  const { height } = more;
  return {
    height, margin: { l: 50, r: 16, t: 20, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 11.5, color: css("muted") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("faint"), activecolor: css("text") },
    hoverlabel: { bgcolor: css("surface"), bordercolor: css("border"), font: { color: css("text"), size: 11.5 } },
    dragmode: touched ? false : "zoom", ...more,
  };
}

const config = () => ({
  responsive: true, displaylogo: false, displayModeBar: narrow() ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { format: "png", filename: "tidegate-backtest" },
});

const axis = (more = {}) => ({ gridcolor: css("grid"), linecolor: css("border"), zeroline: false, ...more });

/** A logarithmic axis around these values, labelled at `steps` of each power of ten. */
function logarithmic(values, room, steps) {
  const [low, high] = [Math.min(...values) / room, Math.max(...values) * room];
  const tickvals = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    tickvals.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(3))).filter((value) => low <= value && value <= high));
  }
  return { type: "log", range: [Math.log10(low), Math.log10(high)], tickvals, ticktext: tickvals.map((value) => digits(value, 5)) };
}

function drawFronts() {
  const priced = settings.price !== null;
  const cost = (run) => (priced ? run.cost : run.replica_hours);
  const goal = (1 - settings.target) * 100;
  // A logarithm has no zero, and a miss of a hundredth of what is allowed is as good as none.
  const miss = (run) => Math.max((1 - run.attained) * 100, goal / 100);
  const traces = Object.keys(titles).map((policy) => {
    const of = runs.filter((run) => run.policy === policy).sort((a, b) => cost(a) - cost(b));
    return {
      type: "scatter", mode: of.length > 1 ? "lines+markers" : "markers", name: titles[policy], x: of.map(cost), y: of.map(miss),
      text: of.map((run) => `${run.name}${run.usual ? ", as in the table" : ""}<br>${percent(run.attained)} in time, ${amount(run.replica_hours)} replica-hours`),
      hovertemplate: "%{text}<extra></extra>",
      line: { color: css(policy), width: policy === "tidegate" ? 2.4 : 1.4, dash: policy === "oracle" ? "dot" : "solid" },
      marker: {
        color: of.map((run) => (run.usual ? css(policy) : css("surface"))), size: of.map((run) => (run.usual ? 11 : 7)),
        line: { color: css(policy), width: 1.6 },
      },
    };
  });
  const ys = traces.flatMap(({ y }) => y).concat(goal);
  const xs = traces.flatMap((trace) => trace.x);
  const element = part("fronts", ".chart");
  const layout = frame({
    height: element.clientHeight - 4, margin: { l: 58, r: 16, t: 14, b: narrow() ? 100 : 84 }, showlegend: true,
    legend: { orientation: "h", y: -0.2, x: 0, font: { color: css("text") } },
    xaxis: axis({ ...logarithmic(xs, 1.1, narrow() ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7]), title: { text: priced ? "cost" : "replica-hours", standoff: 6 } }),
    yaxis: axis({ ...logarithmic(ys, 1.6, [1]), title: { text: "requests that were late, %" } }),
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: goal, y1: goal, line: { color: css("good"), width: 1.2, dash: "dash" } }],
    annotations: [{
      text: `target ${percent(settings.target)}`, xref: "paper", x: 1, xanchor: "right", y: Math.log10(goal), yanchor: "bottom", showarrow: false,
      font: { color: css("good"), size: 11 },
    }],
  });
  Plotly.react(element, traces, layout, config());
  part("fronts", ".hint").textContent = report.fronts
    ? "Down and left is better. Each point is one setting over the whole time; filled ones are those of the table."
    : "Down and left is better. One point a policy: fronts were switched off.";
}

/** Rows that share the axis of time. A row is `{title, weight, traces, whole}`. */
function rows(element, all, more) {
  const weights = all.reduce((sum, row) => sum + row.weight, 0);
  const gap = 0.07;
  let top = 1;
  const layout = frame({
    height: element.clientHeight - 4, margin: { l: 46, r: 16, t: 22, b: narrow() ? 120 : 70 }, hovermode: "x unified", hoversubplots: "axis",
    showlegend: true, legend: { orientation: "h", y: -0.07, x: 0, font: { color: css("text") }, ...more.legend },
    annotations: [], shapes: more.shapes ?? [], uirevision: 1,
  });
  const name = (i) => (i ? String(i + 1) : "");
  all.forEach((row, i) => {
    const bottom = Math.max(0, top - (row.weight / weights) * (1 - gap * (all.length - 1)));
    layout[`yaxis${name(i)}`] = axis({ domain: [bottom, top], rangemode: "tozero", fixedrange: true, nticks: 5, ...(row.whole ? { tickformat: "~d" } : {}) });
    layout.annotations.push({
      text: row.title, xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false,
      font: { size: 11.5, color: css("muted") }, yshift: 1,
    });
    top = bottom - gap;
  });
  layout.xaxis = axis({
    type: "date", anchor: `y${name(all.length - 1)}`, hoverformat: "%a %-d %b %H:%M", nticks: narrow() ? 4 : 12,
    showspikes: true, spikemode: "across", spikethickness: 1, spikecolor: css("muted"), spikedash: "dot",
  });
  const traces = all.flatMap((row, i) => row.traces.map((trace) => ({ xaxis: "x", yaxis: `y${name(i)}`, ...trace })));
  return Plotly.react(element, traces, layout, config());
}

const OPEN = ["tidegate", "hpa"];

function lines(policy, data, more = {}) {
  return {
    type: "scatter", mode: "lines", name: more.name ?? policy, ...data, hovertemplate: "%{y:.3~r}<extra>%{fullData.name}</extra>",
    line: { color: css(more.hue ?? policy), width: policy === "tidegate" ? 2 : 1.5, ...more.line }, ...more.rest,
  };
}

function drawTimeline() {
  const start = Date.parse(timeline.from);
  const x = timeline.arrivals_rps.map((_, k) => plain(start + k * timeline.step_s * 1000));
  const of = (run, field, title, more) => lines(run.policy, { x, y: run[field] }, {
    name: run.name, ...more,
    rest: { legendgroup: run.policy, showlegend: field === "ready", visible: OPEN.includes(run.policy) || "legendonly", ...more?.rest },
  });
  const every = timeline.step_s === 60 ? "minute" : seconds(timeline.step_s);
  const element = part("timeline", ".chart");
  rows(element, [
    { title: "Arrivals, req/s", weight: 1, traces: [lines("load", { x, y: timeline.arrivals_rps }, { hue: "muted", line: { width: 1.1 }, rest: { fill: "tozeroy", fillcolor: faded("muted", 0.14), showlegend: false } })] },
    { title: "Replicas ready", weight: 1.5, whole: true, traces: timeline.runs.map((run) => of(run, "ready", "ready", { line: { shape: "hv" } })) },
    { title: `Requests late, each ${every}`, weight: 0.9, traces: timeline.runs.map((run) => of(run, "missed", "missed", { line: { width: 1.2, shape: "hv" } })) },
  ], {});
  const reset = document.querySelector('[data-testid="reset-zoom"]');
  element.removeAllListeners?.("plotly_relayout");
  element.on("plotly_relayout", (change) => {
    const names = Object.keys(change);
    if (names.some((name) => name.startsWith("xaxis.range"))) reset.hidden = false;
    if (names.includes("xaxis.autorange")) reset.hidden = true;
  });
  reset.onclick = () => Plotly.relayout(element, { "xaxis.autorange": true });
}

function decision(one, { from, step_s, missed }) {
  const late = missed[Math.floor((Date.parse(one.at) - Date.parse(from)) / (step_s * 1000))] > 0;
  return h("details", { class: late && "late" },
    h("summary", {}, h("b", {}, `${one.at.slice(11, 19)}  ${one.from} → ${one.to}`), h("span", {}, one.reasons.at(-1)?.text ?? "")),
    h("ol", {}, one.reasons.map((reason) => h("li", {}, `${reason.text} `, h("code", {}, reason.code)))));
}

function drawWorst() {
  const worst = report.worst_hour;
  const section = document.querySelector('[data-testid="worst"]');
  if (!worst) {
    part("worst").replaceChildren(h("p", {}, "No request was late."));
    part("worst", ".chart").hidden = true;
    return;
  }
  section.querySelector("h2").textContent = `The worst hour of ${worst.name}: ${clock(worst.from)} to ${worst.to.slice(11, 16)} UTC`;
  if (!part("worst").childElementCount) {
    part("worst").replaceChildren(...h("div", {},
      h("p", {}, worst.text),
      worst.causes.length > 0 && h("ul", { class: "causes" }, worst.causes.map((cause) => h("li", {}, cause.text))),
      h("h3", {}, "What it decided, and why"),
      h("div", { class: "decided scroll" }, worst.decisions.map((one) => decision(one, worst.timeline)))).children);
    // To the first one of a minute with late requests, which are what the reader looks for.
    const list = part("worst", ".decided");
    const first = list.querySelector(".late");
    if (first) list.scrollTop = first.offsetTop - list.offsetTop - first.offsetHeight * 2;
  }
  const start = Date.parse(worst.timeline.from);
  const { timeline: seen } = worst;
  const x = seen.arrivals_rps.map((_, k) => plain(start + k * seen.step_s * 1000));
  const shade = { type: "rect", xref: "x", x0: plain(Date.parse(worst.from)), x1: plain(Date.parse(worst.to)), yref: "paper", y0: 0, y1: 1, layer: "below", fillcolor: faded("bad", 0.06), line: { width: 0 } };
  rows(part("worst", ".chart"), [
    { title: "Arrivals, req/s", weight: 1, traces: [lines("load", { x, y: seen.arrivals_rps }, { name: "arrivals", hue: "muted", line: { width: 1.3, shape: "hv" }, rest: { showlegend: false } })] },
    {
      title: "Replicas", weight: 1.4, whole: true, traces: [
        lines("load", { x, y: seen.busy }, { name: "kept busy by the arrivals", hue: "muted", line: { width: 1.2, dash: "dot", shape: "hv" } }),
        lines("tidegate", { x, y: seen.wanted }, { name: "wanted", hue: "wanted", line: { width: 1.7, shape: "hv" } }),
        lines("tidegate", { x, y: seen.ready }, { name: "ready", hue: "ready", line: { width: 2, shape: "hv" }, rest: { fill: "tozeroy", fillcolor: faded("ready", 0.12) } }),
      ],
    },
    { title: "Requests late, each minute", weight: 0.8, traces: [{ type: "bar", name: "late", x, y: seen.missed, marker: { color: css("bad") }, showlegend: false, hovertemplate: "%{y:.3~r}<extra>late</extra>" }] },
  ], { shapes: [shade], legend: { y: -0.09 } });
}

// ——— Light and dark ———

const root = document.documentElement;
const toggle = document.querySelector('[data-testid="theme-toggle"]');
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);

function draw() {
  toggle.textContent = dark() ? "Light" : "Dark";
  drawFronts();
  drawTimeline();
  drawWorst();
}

toggle.addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
matchMedia("(max-width: 620px)").addEventListener("change", draw);

drawSummary();
drawPolicies();
drawSettings();
draw();
root.dataset.drawn = "";
