// Log lines, newest first, with filters. Live: read again every few seconds, and at once when a line of a class appears.

import { empty, h, redraw, slot } from "./dom.js";
import { get } from "./net.js";
import { clock, shortName, words } from "./format.js";

const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal"];
const TYPED_FOR_MS = 250;
const LINES = 150;

const classes = new Set();
let fields = null;
let question = 0;

function select(name, label, options) {
  return h("label", {}, h("span", {}, label), h("select", { name, "data-testid": `log-${name}` }, h("option", { value: "" }, "all"), options));
}

const option = (value, text) => h("option", { value }, text ?? value);

/** Builds the filters. */
export function startLogs() {
  const form = slot("log-filters");
  let typed = 0;
  form.append(
    select("workload", "Workload", []), select("level", "Level", LEVELS.map((level) => option(level))), select("class", "Class", []),
    h("label", { class: "grow" }, h("span", {}, "Text"), h("input", { type: "search", name: "q", maxlength: 200, placeholder: "contains…", "data-testid": "log-q" })),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "live", checked: true, "data-testid": "log-live" }), h("span", {}, "Live")));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => refreshLogs(true), TYPED_FOR_MS);
  });
  fields = form.elements;
}

function addOptions(field, values, text) {
  const there = new Set([...field.options].map(({ value }) => value));
  field.append(...values.filter((value) => !there.has(value)).map((value) => option(value, text(value))));
}

/** Makes the workloads selectable. */
export const offerWorkloads = (ids) => addOptions(fields.workload, ids, shortName);

function line({ at, workload, level, class: kind, text }) {
  return h("div", { class: "log-line", "data-testid": "log-line", "data-level": level, "data-class": kind },
    h("time", { datetime: at }, clock(at)),
    h("span", { class: "level" }, level ?? ""),
    h("span", { class: "of" }, workload ? shortName(workload) : ""),
    h("span", { class: "msg" }, kind ? h("span", { class: "chip" }, words(kind)) : null, text));
}

/** Reads the lines again, unless the reader has stopped that; `anyway` when the filters changed. */
export async function refreshLogs(anyway = false) {
  if (!anyway && !fields.live.checked) return;
  const query = new URLSearchParams({ limit: LINES });
  for (const name of ["workload", "level", "class", "q"]) {
    if (fields[name].value) query.set(name, fields[name].value);
  }
  question += 1;
  const mine = question;
  const { logs } = await get(`/api/v1/logs?${query}`);
  // The answer to an older question must not overwrite that to a newer one.
  if (mine !== question) return;
  logs.forEach((entry) => entry.class && classes.add(entry.class));
  addOptions(fields.class, [...classes].sort(), words);
  const filtered = query.size > 1;
  redraw(slot("logs"), logs, () => (logs.length ? logs.map(line) : empty(filtered ? "No line passes the filters." : "No log lines yet.")));
}
