// One figure of rows that share the axis of time, drawn with Plotly. What a reader zoomed into stays while the data move.

import { byId } from "./dom.js";
import { local } from "./format.js";

let library = null;

/** Loads the chart library once; it is large, and the tables need not wait for it. */
function plotly() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/assets/plotly.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      library = null;
      reject(new Error("the chart library did not load"));
    };
    document.head.append(script);
  });
  return library;
}

/** A colour of the theme in use, by the name of its meaning. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The colour with an opacity; the theme's colours are six hexadecimal digits. */
export const faded = (name, opacity) => colour(name) + Math.round(opacity * 255).toString(16).padStart(2, "0");

/** Whether the reader points with a finger. */
export const touched = matchMedia("(pointer: coarse)").matches;

// Share of the height between two rows: room for the lower one's title.
const GAP = 0.066;

/** Shares of the height from the top down, by the rows' weights. */
function domains(rows) {
  const all = rows.reduce((sum, row) => sum + row.weight, 0);
  const room = 1 - GAP * (rows.length - 1);
  let top = 1;
  return rows.map((row) => {
    const bottom = Math.max(0, top - (row.weight / all) * room);
    const domain = [bottom, top];
    top = bottom - GAP;
    return domain;
  });
}

// Steps between the labels of time, in seconds: such as people count in.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
// A label of hours, minutes and seconds needs this much room.
const LABEL_PX = 78;

/** Where the axis of time is labelled, and how. */
function ticks([from, to], width) {
  const span = (new Date(to) - new Date(from)) / 1000;
  const least = (span * LABEL_PX) / Math.max(width, LABEL_PX);
  const step = STEPS.find((each) => each >= least) ?? STEPS.at(-1);
  const tickformat = step < 60 ? "%H:%M:%S" : step < 86400 ? "%H:%M" : "%-d %b";
  return { dtick: step * 1000, tick0: "2000-01-01", tickformat, tickangle: 0 };
}

/** Steps of an axis that counts whole things; the others find theirs. */
function counted(row) {
  if (!row.whole) return { nticks: row.weight > 1 ? 6 : 4 };
  const most = row.most ?? Math.max(1, ...row.traces.flatMap(({ y }) => y.filter((value) => value !== null)));
  return { dtick: Math.max(1, Math.ceil(most / 4)), tick0: 0, tickformat: "d" };
}

const axisName = (i, prefix) => (i === 0 ? prefix : `${prefix}${i + 1}`);

function layout(rows, view, range, width) {
  const grid = colour("grid");
  const font = { family: getComputedStyle(document.body).fontFamily, size: 11, color: colour("muted") };
  const at = domains(rows);
  const out = {
    // Constant: what the reader chose in the mode bar stays.
    uirevision: 1,
    margin: { l: 46, r: 22, t: 18, b: 36 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font,
    showlegend: false,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("text") },
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("border"), font: { color: colour("text"), size: 11 } },
    // A finger that drags scrolls the page.
    dragmode: touched ? false : "zoom",
    xaxis: {
      type: "date", range, gridcolor: grid, zeroline: false, anchor: axisName(rows.length - 1, "y"),
      hoverformat: "%H:%M:%S", showspikes: true, spikemode: "across", spikethickness: 1, spikecolor: colour("muted"), spikedash: "dot",
      ...ticks(range, width),
    },
    annotations: [],
    shapes: [],
  };
  rows.forEach((row, i) => {
    out[axisName(i, "yaxis")] = {
      domain: at[i], gridcolor: grid, zeroline: false, rangemode: "tozero", fixedrange: true,
      tickformat: row.tickformat, ...counted(row), automargin: false,
    };
    out.annotations.push({
      text: row.title, xref: "paper", yref: "paper", x: 0, y: at[i][1], xanchor: "left", yanchor: "bottom", showarrow: false,
      font: { size: 11, color: colour("muted") }, yshift: 1,
    });
    for (const line of row.lines ?? []) {
      out.shapes.push({
        type: "line", xref: "paper", x0: 0, x1: 1, yref: axisName(i, "y"), y0: line.y, y1: line.y,
        line: { color: colour(line.colour), width: 1, dash: "dash" },
      });
    }
  });
  out.shapes.push({
    type: "line", xref: "x", x0: local(view.now), x1: local(view.now), yref: "paper", y0: 0, y1: 1,
    line: { color: colour("now"), width: 1 },
  });
  out.annotations.push({
    text: "now", xref: "x", x: local(view.now), yref: "paper", y: 1, xanchor: "left", yanchor: "top", showarrow: false, xshift: 1,
    font: { size: 10, color: colour("muted") },
  });
  if (view.preloaded > view.from) markPreloaded(out, view);
  return out;
}

/** Shades what was there before the start: it was not seen, but made up or imported. */
function markPreloaded(out, view) {
  const until = local(view.preloaded);
  out.shapes.push({
    type: "rect", xref: "x", x0: local(view.from), x1: until, yref: "paper", y0: 0, y1: 1, layer: "below",
    fillcolor: faded("muted", 0.07), line: { width: 0 },
  });
  // At the left edge: the word must not meet that of now.
  out.annotations.push({
    text: "preloaded", xref: "x", x: local(view.from), yref: "paper", y: 1, xanchor: "left", yanchor: "top", showarrow: false, xshift: 2,
    font: { size: 10, color: colour("muted") },
  });
}

const config = () => ({
  responsive: true,
  // On a narrow page its buttons would lie over the chart.
  displayModeBar: innerWidth > 620 ? "hover" : false,
  displaylogo: false,
  doubleClick: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "resetScale2d"],
  toImageButtonOptions: { format: "png", filename: "tidegate" },
});

/** A figure in `element` that keeps the reader's zoom until it is reset. */
export function figure(element) {
  let last = null;
  let ready = false;
  // The range that the reader zoomed or panned to.
  let chosen = null;
  // While a button is held, a new figure would end the drag.
  let held = false;
  const reset = byId("reset-zoom");

  async function draw(rows, view) {
    last = [rows, view];
    const Plotly = await plotly();
    if (held || last[0] !== rows || !rows.length) return;
    if (!ready) element.replaceChildren();
    const traces = rows.flatMap((row, i) => row.traces.map((trace) => ({ ...trace, xaxis: "x", yaxis: axisName(i, "y") })));
    const range = chosen ?? [local(view.from), local(view.to)];
    await Plotly.react(element, traces, layout(rows, view, range, element.clientWidth), config());
    if (ready) return;
    ready = true;
    element.on("plotly_relayout", (change) => {
      if (!Object.keys(change).some((name) => name.startsWith("xaxis.range"))) return;
      chosen = [...element.layout.xaxis.range];
      reset.hidden = false;
      again();
    });
    element.on("plotly_doubleclick", unzoom);
  }

  const again = () => last && draw([...last[0]], last[1]);

  function unzoom() {
    chosen = null;
    reset.hidden = true;
    again();
  }

  element.addEventListener("pointerdown", () => (held = true));
  addEventListener("pointerup", () => (held = false));
  addEventListener("pointercancel", () => (held = false));
  reset.addEventListener("click", unzoom);
  return { draw, unzoom, again };
}
