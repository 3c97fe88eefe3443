// Puts the page together: what is read when, and what is shown where. News comes as events; series are read again every few seconds.

import { byId, h, setAttr, slot } from "./dom.js";
import { get, listen, workloadPath } from "./net.js";
import { duration, percent, words } from "./format.js";
import { figure, touched } from "./chart.js";
import { legendOf, nodeRows, reach, viewOf, workloadRows } from "./charts.js";
import { showAbout, showConnection, showFailure, startTheme } from "./header.js";
import { showConditions, showTiles, showWorkloads } from "./workloads.js";
import { addDecision, showDecisions } from "./decisions.js";
import { showLeague, showPool, showRivals, showSinks } from "./panels.js";
import { offerWorkloads, refreshLogs, startLogs } from "./logs.js";
import { refreshFaults } from "./faults.js";
import { refreshNode } from "./node.js";

const SERIES_EVERY_MS = 2000;
const DETAIL_EVERY_MS = 4000;
const LOGS_EVERY_MS = 2500;
const NODE_EVERY_MS = 5000;
// Changes of size that the pool shows, and decisions read of each workload to find them: many only change a reason.
const MOVES = 3;
const MOVES_READ = 12;

const state = { about: null, moves: [], workloads: new Map(), selected: null, detail: null, span: null, liveAt: null };
const chart = figure(slot("chart"));

const listed = () => [...state.workloads.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
const fromHash = () => decodeURIComponent(location.hash.replace(/^#\/w\//, ""));

function select(id, byReader = true) {
  if (!state.workloads.has(id) || (id === state.selected && byReader)) return;
  state.selected = id;
  state.detail = null;
  if (byReader) history.replaceState(null, "", `#/w/${id}`);
  chart.unzoom();
  showTable();
  run(detail);
  run(series);
}

function showTable() {
  const workloads = listed();
  showWorkloads(workloads, state.selected, select);
  showConditions(workloads);
  byId("decisions").hidden = !workloads.length;
  byId("detail").hidden = false;
  byId("detail").classList.toggle("alone", !workloads.length);
}

function choose() {
  if (state.workloads.has(state.selected)) return;
  const wanted = fromHash();
  const first = listed().find(({ role }) => role === "serving") ?? listed()[0];
  const id = state.workloads.has(wanted) ? wanted : first?.id;
  if (id) select(id, false);
  else state.selected = null;
}

async function workloads() {
  const answer = await get("/api/v1/workloads");
  state.workloads = new Map(answer.workloads.map((workload) => [workload.id, workload]));
  offerWorkloads([...state.workloads.keys()]);
  choose();
  showTable();
}

async function about() {
  state.about = await get("/api/v1/about");
  state.liveAt = new Date().toISOString();
  showAbout(state.about);
  showPool(state.about.pool, state.moves);
  showRivals(state.about, listed());
  showSinks(state.about);
  if (!state.span) offerRanges(state.about.day_s);
}

/** Reads the last changes of size among those who share the pool, newest first. */
async function moves() {
  const pool = state.about?.pool;
  const ids = pool?.held.map(({ workload }) => workload) ?? [];
  const answers = await Promise.all(ids.map((id) => get(workloadPath(id, `/decisions?limit=${MOVES_READ}`))));
  const all = answers.flatMap(({ decisions }, i) => decisions.map((decision) => ({ workload: ids[i], ...decision })));
  state.moves = all.filter(({ from, to }) => from !== to).sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, MOVES);
  showPool(pool ?? null, state.moves);
}

async function detail() {
  const id = state.selected;
  if (!id) {
    slot("detail-title").textContent = "This machine";
    showLeague(null);
    return;
  }
  const [found, summary, { decisions }] = await Promise.all(
    [get(workloadPath(id)), get("/api/v1/summary"), get(workloadPath(id, "/decisions"))]);
  if (id !== state.selected) return;
  state.detail = found;
  showTiles(found, summary.workloads.find(({ workload }) => workload === id));
  showLeague(found);
  showDecisions(id, decisions);
}

async function series() {
  if (!state.span || document.hidden) return;
  const id = state.selected;
  const workload = state.workloads.get(id);
  const forecast = workload?.role === "serving" ? await get(workloadPath(id, "/forecast")) : null;
  const now = Date.now();
  const preloaded = state.about.history_preloaded && workload ? Date.parse(state.about.started_at) : 0;
  const view = { ...viewOf(now, state.span, reach(forecast, now)), preloaded, pool: state.about.pool };
  const rows = workload ? await workloadRows(workload, state.detail, forecast, view) : await nodeRows(view);
  if (id !== state.selected) return;
  showLegend(workload?.role ?? "node");
  showNote(workload, forecast);
  await chart.draw(rows, view);
}

function showLegend(role) {
  const place = slot("legend");
  if (place.dataset.role === role) return;
  place.dataset.role = role;
  place.replaceChildren(...legendOf(role).map(([name, hue, style]) => {
    const mark = h("i", { "data-style": style });
    mark.style.setProperty("--hue", `var(--${hue})`);
    return h("span", {}, mark, name);
  }));
}

const zooming = touched ? "Tap for values." : "Drag to zoom, double-click to return.";

function forecastText(forecast) {
  if (!forecast?.model) return "No model has enough history for a forecast yet";
  const by = `Forecast by ${words(forecast.model)}`;
  const covered = forecast.coverage?.["0.95"] ?? null;
  return covered === null ? by : `${by}; ${percent(covered, 1)} of the values came at or under its 95 % line`;
}

function showNote(workload, forecast) {
  const note = slot("chart-note");
  if (workload?.role === "serving") {
    note.textContent = `${forecastText(forecast)}. ${zooming}`;
  } else note.textContent = zooming;
}

function offerRanges(day) {
  const spans = day < 86400
    ? [[day / 4, "¼ day"], [day, "1 day"], [day * 2, "2 days"]]
    : [[600, "10 min"], [3600, "1 h"], [21600, "6 h"], [86400, "1 day"], [604800, "7 days"]];
  state.span = day < 86400 ? day : spans[0][0];
  const place = slot("ranges");
  const buttons = spans.map(([span, name]) => h("button", {
    type: "button", class: "quiet", "data-testid": "range", "data-span": span, "aria-pressed": String(span === state.span), title: day < 86400 ? `${duration(span)} by the clock` : null,
    onclick: () => {
      state.span = span;
      buttons.forEach((each) => setAttr(each, "aria-pressed", String(Number(each.dataset.span) === span)));
      chart.unzoom();
      run(series);
    },
  }, name));
  place.replaceChildren(...buttons);
}

const failed = new Set();

/** Does a piece of work, and says so when it fails; the next success takes the words back. */
async function run(work) {
  try {
    await work();
    failed.delete(work.name);
    if (!failed.size) showFailure(null);
  } catch (error) {
    failed.add(work.name);
    showFailure(`Could not read ${work.name}: ${error.message}`);
  }
}

/** Does a piece of work again and again, each time after the last has ended. */
async function every(ms, work) {
  for (;;) {
    if (!document.hidden) await run(work);
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
}

const logs = () => refreshLogs();
const node = () => refreshNode();
const faults = () => refreshFaults(state.about?.demo ?? false);

function give(name, data) {
  state.liveAt = new Date().toISOString();
  if (name === "workload") {
    const isNew = !state.workloads.has(data.id);
    state.workloads.set(data.id, data);
    if (isNew) run(workloads);
    else showTable();
  } else if (name === "decision") addDecision(data);
  else if (name === "log_class") run(logs);
  else if (name === "condition" || name === "lagged") run(workloads);
}

async function start() {
  startTheme(() => chart.again());
  startLogs();
  await Promise.all([run(about), run(workloads)]);
  addEventListener("hashchange", () => select(fromHash()));
  document.addEventListener("visibilitychange", () => run(series));
  listen(give, (link) => {
    showConnection(link, state.liveAt);
    if (link !== "live") return;
    state.liveAt = new Date().toISOString();
    run(workloads);
  });
  every(SERIES_EVERY_MS, series);
  every(DETAIL_EVERY_MS, detail);
  every(DETAIL_EVERY_MS, about);
  every(DETAIL_EVERY_MS, moves);
  every(DETAIL_EVERY_MS, faults);
  every(LOGS_EVERY_MS, logs);
  every(NODE_EVERY_MS, node);
}

start();
