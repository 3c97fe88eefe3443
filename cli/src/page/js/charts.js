// What the charts of a workload show: its demand with the forecast, its size, and how well it does. Reads the series and makes the rows.

import { Signal } from "./signals.js";
import { get, workloadPath } from "./net.js";
import { colour, faded } from "./chart.js";
import { duration, local, shortName } from "./format.js";

// More points than a chart has pixels show nothing more.
const POINTS = 400;

async function series(base, signal, view) {
  const query = new URLSearchParams({
    signal: signal.name, from: new Date(view.from).toISOString(), to: new Date(view.now).toISOString(), step: view.step,
  });
  const { points } = await get(`${base}?${query}`);
  return { x: points.map(([at]) => local(Date.parse(at))), y: points.map(([, value]) => value) };
}

/** The range that is shown: `span` seconds back, and ahead as far as the forecast goes, at most half as much. */
export function viewOf(now, span, ahead) {
  const step = Math.max(1, Math.round(span / POINTS));
  // Even without a forecast the line of now stands clear of the edge.
  const shown = Math.max(span * 0.04, Math.min(ahead, span / 2));
  return { now, from: now - span * 1000, to: now + shown * 1000, step };
}

/** How far a forecast reaches beyond now, in seconds. */
export function reach(forecast, now) {
  const steps = Object.values(forecast?.quantiles ?? {})[0]?.length ?? 0;
  return steps ? Math.max(0, (Date.parse(forecast.start) - now) / 1000 + steps * forecast.step_s) : 0;
}

// One reading may be missed without a gap; what is longer than this many usual distances is one.
const SILENCE = 2.5;

/** Lets a line run on where readings are further apart than the steps that were asked for; a silence stays a gap. */
function bridged(data) {
  const known = data.y.flatMap((value, i) => (value === null ? [] : [i]));
  const apart = known.slice(1).map((at, k) => at - known[k]);
  const usual = apart.toSorted((a, b) => a - b)[Math.floor(apart.length / 2)] ?? 1;
  const between = new Set();
  apart.forEach((distance, k) => {
    for (let i = known[k] + 1; distance <= usual * SILENCE && i < known[k + 1]; i++) between.add(i);
  });
  return Object.fromEntries(Object.entries(data).map(([name, values]) => [name, values.filter((_, i) => !between.has(i))]));
}

const HOVER = "%{y:.3~r}<extra>%{fullData.name}</extra>";

function line(name, data, hue, more = {}) {
  const { line: style, ...rest } = more;
  return {
    type: "scatter", mode: "lines", name, ...bridged(data), connectgaps: false, hovertemplate: HOVER,
    line: { color: colour(hue), width: 1.7, ...style }, ...rest,
  };
}

const stepped = (name, data, hue, more = {}) => line(name, data, hue, { ...more, line: { shape: "hv", ...more.line } });

/** The forecast as nested bands, the median, and the upper quantile that decisions look at. */
function fan(forecast) {
  const of = (level) => forecast.quantiles[level];
  if (!of("0.5")) return [];
  const start = Date.parse(forecast.start);
  // A step's value stands in its middle.
  const x = of("0.5").map((_, k) => local(start + (k + 0.5) * forecast.step_s * 1000));
  const edge = (level, more) => ({
    type: "scatter", mode: "lines", x, y: of(level), hoverinfo: "skip", line: { width: 0, color: colour("forecast") }, ...more,
  });
  const bands = [["0.05", "0.95", 0.14], ["0.1", "0.9", 0.14], ["0.25", "0.75", 0.2]].filter(([low, high]) => of(low) && of(high));
  const filled = bands.flatMap(([low, high, opacity]) => [
    edge(low, { name: `band ${low}` }),
    edge(high, { name: `band ${high}`, fill: "tonexty", fillcolor: faded("forecast", opacity) }),
  ]);
  return [
    ...filled,
    line("forecast, 95 %", { x, y: of("0.95") }, "forecast", { line: { width: 0.8, dash: "dot" } }),
    line("forecast, median", { x, y: of("0.5") }, "forecast", { line: { width: 1.6, dash: "dash" } }),
  ];
}

function sizeRow(title, { wanted, ready, starting }) {
  return {
    title, weight: 1.1, whole: true,
    traces: [
      stepped("ready", ready, "ready", { fill: "tozeroy", fillcolor: faded("ready", 0.16) }),
      stepped("starting", starting, "starting", { line: { width: 1.3, dash: "dot" } }),
      stepped("wanted", wanted, "wanted", { line: { width: 1.7 } }),
    ],
  };
}

async function sizes(base, view) {
  const [wanted, ready, starting] = await Promise.all(
    [Signal.ReplicasWanted, Signal.ReplicasReady, Signal.ReplicasStarting].map((signal) => series(base, signal, view)));
  return { wanted, ready, starting };
}

/** Who holds the pool's slots, one on the other: where one gives way, the other takes over. */
async function poolRow(pool, view) {
  if (!pool || pool.held.length < 2) return [];
  const held = await Promise.all(pool.held.map(({ workload }) => series(workloadPath(workload, "/series"), Signal.ReplicasReady, view)));
  // Stacked by hand: the library would take an unknown size for zero.
  let below = held[0].y.map(() => 0);
  const traces = held.map(({ x, y }, i) => {
    const { workload, role } = pool.held[i];
    below = y.map((count, k) => (count === null || below[k] === null ? null : below[k] + count));
    return stepped(shortName(workload), { x, y: below, customdata: y }, role, {
      fill: i ? "tonexty" : "tozeroy", fillcolor: faded(role, 0.3), line: { width: 1 }, hovertemplate: "%{customdata}<extra>%{fullData.name}</extra>",
    });
  });
  const named = [...new Set(pool.held.map(({ role }) => role))].map((role) => `<span style="color:${colour(role)}">■ ${role}</span>`).join(", ");
  return [{ title: `Pool of ${pool.slots} slots: ${named}`, weight: 0.9, whole: true, most: pool.slots, traces }];
}

/** What the ready replicas carry together, where both are known. */
function carried(ready, capacity) {
  const y = ready.y.map((count, i) => (count === null || capacity.y[i] === null || capacity.y[i] === undefined ? null : count * capacity.y[i]));
  return { x: ready.x, y };
}

async function servingRows(workload, detail, forecast, view) {
  const base = workloadPath(workload.id, "/series");
  const name = forecast?.signal ?? workload.demand[0]?.signal ?? Signal.RequestsPerSecond.name;
  const signal = Object.values(Signal).find((known) => known.name === name) ?? Signal.RequestsPerSecond;
  const [demand, size, capacity, p50, p95, pool] = await Promise.all([
    series(base, signal, view), sizes(base, view), series(base, Signal.CapacityPerReplica, view), series(base, Signal.LatencyP50, view),
    series(base, Signal.LatencyP95, view), poolRow(view.pool, view)]);
  const comparable = signal === Signal.RequestsPerSecond;
  const limit = detail?.slo_latency_s;
  const objective = limit ? `, objective ${duration(limit)}` : "";
  return [
    {
      title: `Demand and what the ready replicas carry, ${signal.unit}`, weight: 2.2,
      traces: [
        ...fan(forecast),
        ...(comparable ? [stepped("capacity ready", carried(size.ready, capacity), "ready", { line: { width: 1.3 } })] : []),
        line("demand", demand, "demand"),
      ],
    },
    sizeRow("Replicas", size),
    ...pool,
    {
      title: `Latency, s (p50 and p95${objective})`, weight: 1, lines: limit ? [{ y: limit, colour: "bad" }] : [],
      traces: [
        line("latency p50", p50, "latency", { line: { width: 1, dash: "dot" } }),
        line("latency p95", p95, "latency"),
      ],
    },
  ];
}

async function trainingRows(workload, view) {
  const base = workloadPath(workload.id, "/series");
  const [samples, size, loss, pool] = await Promise.all([
    series(base, Signal.SamplesPerSecond, view), sizes(base, view), series(base, Signal.Loss, view), poolRow(view.pool, view)]);
  return [
    { title: "Samples per second, all workers", weight: 1.6, traces: [line("samples/s", samples, "training")] },
    sizeRow("Workers", size),
    ...pool,
    { title: "Loss", weight: 1, traces: [line("loss", loss, "loss")] },
  ];
}

/** The rows of a workload's chart. */
export const workloadRows = (workload, detail, forecast, view) =>
  workload.role === "training" ? trainingRows(workload, view) : servingRows(workload, detail, forecast, view);

/** The rows of this machine's chart. */
export async function nodeRows(view) {
  const base = "/api/v1/node/series";
  const wanted = [Signal.CpuBusyRatio, Signal.MemoryAvailableBytes, Signal.CpuPressureRatio, Signal.MemoryPressureRatio, Signal.IoPressureRatio];
  const [cpu, memory, ...pressure] = await Promise.all(wanted.map((signal) => series(base, signal, view)));
  const names = ["CPU", "memory", "disk"];
  const hues = ["demand", "latency", "wanted"];
  const rows = [
    { title: "CPU busy", weight: 1.4, tickformat: ".0%", traces: [line("CPU busy", cpu, "demand", { hovertemplate: "%{y:.1%}<extra>%{fullData.name}</extra>" })] },
    { title: "Memory available, bytes", weight: 1, tickformat: ".3~s", traces: [line("memory available", memory, "latency", { hovertemplate: "%{y:.3s}B<extra>%{fullData.name}</extra>" })] },
    { title: "Pressure: share of time in which some task waited", weight: 1, tickformat: ".0%", traces: pressure.map((data, i) => line(names[i], data, hues[i])) },
  ];
  // Not every kernel tells of pressure: a row without any value would only puzzle.
  return rows.filter(({ traces }) => traces.some(({ y }) => y.some((value) => value !== null)));
}

/** What the colours of a chart mean: [name, colour, style]. */
export const legendOf = (role) => ({
  serving: [["demand", "demand", "line"], ["forecast 5–95 %", "forecast", "band"], ["capacity ready", "ready", "line"], ["wanted", "wanted", "line"], ["ready", "ready", "area"],
    ["starting", "starting", "dots"], ["latency", "latency", "line"], ["objective", "bad", "dash"]],
  training: [["samples/s", "training", "line"], ["wanted", "wanted", "line"], ["ready", "ready", "area"], ["starting", "starting", "dots"], ["loss", "loss", "line"]],
  node: [["CPU", "demand", "line"], ["memory", "latency", "line"], ["disk", "wanted", "line"]],
})[role] ?? [];
