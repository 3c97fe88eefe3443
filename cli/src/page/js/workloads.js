// The table of workloads, the tiles of the selected one, and the conditions that hold.

import { empty, h, keyed, setAttr, setText, slot } from "./dom.js";
import { ago, duration, fixed, number, percent, quantity, shortName, target, UNKNOWN, words } from "./format.js";

const COLUMNS = ["Workload", "Role", "Mode", "Ready", "Wanted", "Starting", "Demand", "Within objective", "Bottleneck", "Conditions"];

/** Within the objective, missing it, or not known. */
function standing({ attained, target }) {
  if (attained === null || target === null) return null;
  return attained >= target ? "good" : "bad";
}

function demandText(demand) {
  return demand.length ? demand.map(({ value, unit }) => quantity(value, unit)).join(", ") : UNKNOWN;
}

function row(workload, select) {
  const cells = COLUMNS.map((name) => h("td", { "data-label": name }));
  const button = h("button", { type: "button", class: "pick", "data-testid": "select-workload", onclick: () => select(workload.id) },
    h("b", {}, shortName(workload.id)), h("small", {}, workload.id));
  cells[0].append(button);
  cells[1].append(h("span", { class: "role" }));
  return h("tr", { "data-testid": "workload", "data-workload": workload.id }, cells);
}

function updateRow(element, workload, selected) {
  const [name, role, mode, ready, wanted, starting, demand, slo, bottleneck, conditions] = element.cells;
  setAttr(element, "aria-current", workload.id === selected ? "true" : null);
  setAttr(name.firstElementChild, "aria-pressed", String(workload.id === selected));
  setAttr(role.firstElementChild, "data-role", workload.role);
  setText(role.firstElementChild, workload.role);
  setText(mode, workload.mode);
  const { replicas } = workload;
  setText(ready, number(replicas.ready, 0));
  setText(wanted, number(replicas.wanted, 0));
  setText(starting, number(replicas.starting, 0));
  setAttr(starting, "data-busy", replicas.starting > 0 ? "" : null);
  setText(demand, demandText(workload.demand));
  const goal = workload.slo.target === null ? "" : `, target ${target(workload.slo.target)}`;
  setText(slo, workload.slo.attained === null && !goal ? UNKNOWN : `${percent(workload.slo.attained)}${goal}`);
  setAttr(slo, "data-standing", standing(workload.slo));
  setText(bottleneck, words(workload.bottleneck));
  keyed(conditions, workload.conditions.length ? workload.conditions : [null], (c) => c?.name ?? "none",
    (c) => (c ? h("span", { class: "chip", "data-severity": c.severity, title: c.text }, words(c.name)) : h("span", { class: "faint" }, "none")),
    (chip, c) => c && setAttr(chip, "title", c.text));
}

/** Shows the workloads; `select` is called with the id of the one that is chosen. */
export function showWorkloads(workloads, selected, select) {
  const place = slot("workloads");
  if (!workloads.length) {
    delete place.dataset.table;
    place.replaceChildren(noWorkloads());
    return;
  }
  if (!("table" in place.dataset)) {
    place.dataset.table = "";
    const head = h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name))));
    place.replaceChildren(h("table", { class: "workloads" }, head, h("tbody")));
  }
  keyed(place.querySelector("tbody"), workloads, ({ id }) => id, (w) => row(w, select), (element, w) => updateRow(element, w, selected));
}

function noWorkloads() {
  return h("div", { class: "welcome", "data-testid": "no-workloads" },
    h("p", {}, h("b", {}, "No workloads yet. "), "Tidegate watches this machine and keeps its history."),
    h("ol", {},
      h("li", {}, "Name a process group in ", h("code", {}, "tidegate.yaml"), "; the folder ", h("code", {}, "examples/"), " holds some to start from."),
      h("li", {}, "Check it: ", h("code", {}, "tidegate check config")),
      h("li", {}, "Start again: ", h("code", {}, "tidegate up"), ". Policies start in shadow: they decide and explain, but change nothing.")),
    h("p", {}, "To see one at work first: ", h("code", {}, "tidegate up --demo")));
}

function tiles(detail, summary) {
  const { capacity, lead_time: lead, provision, evidence } = detail;
  const training = detail.role === "training";
  const slo = ["Within objective", percent(detail.slo.attained), `target ${target(detail.slo.target)}`, standing(detail.slo)];
  const day = summary ?? {};
  const shared = [["Replica-hours", fixed(day.replica_hours ?? null, day.replica_hours < 1 ? 3 : 2), "last day of load"]];
  const limit = ["Bottleneck", words(detail.bottleneck), evidence ? helpText(evidence) : "", null, evidence?.text];
  if (training) {
    return [["Steps", number(day.steps ?? null, 0), "last day of load"], ...shared,
      ["Lost to resizes", percent(day.goodput_lost_fraction ?? null), duration(day.goodput_lost_s ?? null)], limit];
  }
  return [slo, ["Requests", number(day.requests ?? null, 0), "last day of load"], ...shared,
    ["One replica carries", capacity ? quantity(capacity.mid, capacity.unit) : UNKNOWN, capacity ? `${number(capacity.low)}–${number(capacity.high)}, ${capacity.source}` : ""],
    ["Provided for", provision ? `${number(provision.rehearsed_replicas, 1)} replicas` : UNKNOWN,
      provision ? `rehearsed: ${percent(provision.rehearsed_miss_fraction)} late` : "not rehearsed yet", null, provision?.text],
    ["Lead time, p90", duration(lead?.p90_s ?? null), lead ? `${number(lead.starts, 0)} starts seen` : ""], limit];
}

const helpText = ({ replicas_help: help }) => (help === null ? "" : help ? "replicas help" : "replicas do not help");

/** Shows the figures of the selected workload. */
export function showTiles(detail, summary) {
  setText(slot("detail-title"), shortName(detail.id));
  keyed(slot("tiles"), tiles(detail, summary), ([name]) => name,
    ([name]) => h("div", { class: "tile" }, h("span", {}, name), h("b"), h("small")),
    (tile, [, value, more, state, title]) => {
      setText(tile.children[1], value);
      setText(tile.children[2], more ?? "");
      setAttr(tile.children[1], "data-standing", state ?? null);
      setAttr(tile, "title", title ?? null);
    });
}

/** Shows every condition that holds, with its words. */
export function showConditions(workloads) {
  const all = workloads.flatMap(({ id, conditions }) => conditions.map((condition) => ({ id, condition })));
  const place = slot("conditions");
  place.parentElement.hidden = !workloads.length;
  if (!all.length) {
    if (!place.querySelector(".empty")) place.replaceChildren(empty("All is as it should be."));
    return;
  }
  keyed(place, all, ({ id, condition }) => `${id} ${condition.name}`,
    ({ condition }) => h("div", { class: "condition", "data-testid": "condition" },
      h("span", { class: "chip", "data-severity": condition.severity }, words(condition.name)), h("span"), h("small")),
    (element, { id, condition }) => {
      setText(element.children[1], condition.text);
      setText(element.children[2], [shortName(id), condition.since && ago(condition.since)].filter(Boolean).join(" · "));
    });
}
