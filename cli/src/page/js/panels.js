// The panels beside a workload: what the same traffic would have cost, who holds the pool, which model forecasts best, how logs are shipped.

import { empty, h, redraw, slot } from "./dom.js";
import { clock, duration, fixed, number, percent, shortName, UNKNOWN } from "./format.js";
import { deciding } from "./decisions.js";

const POLICIES = { tidegate: "Tidegate", reactive: "Tidegate without forecasts", hpa: "Kubernetes HPA, defaults" };

function bar(share, hue) {
  const width = Math.max(0, Math.min(1, share ?? 0)) * 100;
  const inner = h("i");
  inner.style.width = `${width}%`;
  inner.style.background = `var(--${hue})`;
  return h("span", { class: "bar", "aria-hidden": "true" }, inner);
}

function rivalRow(rival, most, target) {
  const late = rival.slo_miss_fraction;
  const standing = late === null || target === null ? null : late <= 1 - target + 1e-9 ? "good" : "bad";
  return h("tr", { "data-testid": "rival", "data-policy": rival.policy },
    h("th", { scope: "row" }, POLICIES[rival.policy] ?? rival.policy),
    h("td", { class: "num" }, fixed(rival.replica_hours, most < 1 ? 3 : 2), bar(rival.replica_hours === null ? 0 : rival.replica_hours / most, rival.policy === "tidegate" ? "demand" : "faint")),
    h("td", { class: "num", "data-standing": standing }, percent(late, 2)));
}

/** Rivals by workload, each beside Tidegate itself. */
export function showRivals(about, workloads) {
  const place = slot("rivals");
  place.parentElement.hidden = !workloads.length;
  const targets = Object.fromEntries(workloads.map(({ id, slo }) => [id, slo.target]));
  redraw(place, { rivals: about.rivals, since: about.rivals_since, targets }, ({ rivals, since }) => {
    if (!rivals.length) return empty("Nothing to compare yet: the replay needs some minutes of traffic.");
    const ids = [...new Set(rivals.map(({ workload }) => workload))];
    const tables = ids.map((id) => {
      const own = rivals.filter(({ workload }) => workload === id);
      const most = Math.max(...own.map((rival) => rival.replica_hours ?? 0), 1e-9);
      return h("table", { class: "plain" },
        h("caption", {}, shortName(id)),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Policy"), h("th", { scope: "col", class: "num" }, "Replica-hours"), h("th", { scope: "col", class: "num" }, "Late requests"))),
        h("tbody", {}, own.map((rival) => rivalRow(rival, most, targets[id] ?? null))));
    });
    return [...tables, h("p", { class: "foot" }, `${since ? `Since ${clock(since)}. ` : ""}Tidegate as seen; the others replayed on the same arrivals.`)];
  });
}

function move({ workload, at, from, to, reasons }) {
  const why = deciding({ to, reasons })?.text;
  return h("li", { "data-testid": "pool-move", "data-workload": workload },
    h("time", { datetime: at }, clock(at)), h("b", {}, `${shortName(workload)} ${from} → ${to}`), h("span", {}, why ?? "no reason given"));
}

/** The slots of the pool, coloured by who holds them, and why that changed last. */
export function showPool(pool, moves) {
  const place = slot("pool");
  place.parentElement.hidden = !pool;
  if (!pool) return;
  redraw(place, [pool, moves.map(({ workload, at }) => [workload, at])], () => {
    const slots = pool.held.flatMap(({ workload, role, slots }) => Array.from({ length: slots }, () => ({ workload, role })));
    const all = slots.concat(Array.from({ length: pool.free }, () => ({ workload: "free", role: "free" })));
    const map = h("div", { class: "slots", role: "img", "aria-label": pool.held.map((x) => `${shortName(x.workload)} ${x.slots}`).concat(`free ${pool.free}`).join(", ") },
      all.map(({ workload, role }) => h("i", { "data-role": role, "data-testid": "pool-slot", title: role === "free" ? "free" : shortName(workload) })));
    const legend = h("ul", { class: "holders" },
      pool.held.map((x) => h("li", {}, h("i", { "data-role": x.role }), shortName(x.workload), h("b", {}, String(x.slots)))),
      h("li", {}, h("i", { "data-role": "free" }), "free", h("b", {}, String(pool.free))));
    const last = moves.length ? [h("h3", {}, "Last moves"), h("ol", { class: "moves" }, moves.map(move))] : [];
    return [map, legend, ...last, ...pool.notes.map((note) => h("p", { class: "foot" }, note))];
  });
}

function modelRow({ model, pinball_ratio: ratio, coverage95, origins, in_use: used }, worst) {
  return h("tr", { "data-testid": "model", "data-model": model, "data-in-use": String(used) },
    h("th", { scope: "row" }, model.replaceAll("_", " "), used ? h("span", { class: "chip", "data-severity": "used" }, "in use") : null),
    h("td", { class: "num" }, fixed(ratio, 2), bar(ratio === null ? 0 : ratio / worst, used ? "forecast" : "faint")),
    h("td", { class: "num" }, percent(coverage95, 1)),
    h("td", { class: "num" }, number(origins, 0)));
}

// More would push the other panels apart; the API has them all.
const MODELS = 6;

/** Rows and words of a league: the best that were judged, the one in use among them, and how many are left out. */
function shownOf(league) {
  const judged = league.filter((row) => row.pinball_ratio !== null);
  const used = judged.filter((row) => row.in_use);
  const best = judged.filter((row) => !row.in_use).slice(0, MODELS - used.length);
  const rows = judged.filter((row) => used.includes(row) || best.includes(row));
  const left = [[judged.length - rows.length, "worse"], [league.length - judged.length, "not judged yet"]].filter(([count]) => count > 0);
  return { rows, left: left.map(([count, how]) => `${count} ${how}`).join(", ") };
}

/** The models of the selected workload, best first. */
export function showLeague(detail) {
  const place = slot("league");
  place.parentElement.hidden = !detail;
  if (!detail) return;
  redraw(place, [detail.league, detail.role], ([league, role]) => {
    if (role === "training") return empty("Training takes what serving leaves: its own demand is not forecast.");
    const { rows, left } = shownOf(league);
    if (!rows.length) return empty("No model has been judged yet.");
    const worst = Math.max(...rows.map((row) => row.pinball_ratio ?? 0), 1e-9);
    return [
      h("table", { class: "plain" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Model"), h("th", { scope: "col", class: "num" }, "Loss"), h("th", { scope: "col", class: "num" }, "Under q95"), h("th", { scope: "col", class: "num" }, "Judged"))),
        h("tbody", {}, rows.map((row) => modelRow(row, worst)))),
      h("p", { class: "foot" }, `Loss: pinball loss against the last value; below 1 is better. Under q95: share of values at or below the 95 % quantile.${left ? ` Not shown: ${left}.` : ""}`),
    ];
  });
}

/** Figures of log shipping. */
export function showSinks(about) {
  const place = slot("sinks");
  place.parentElement.hidden = !about.sinks.length && !about.elasticsearch;
  redraw(place, [about.sinks, about.elasticsearch], ([sinks, indexed]) => [
    ...sinks.map((sink) => h("div", { class: "sink", "data-testid": "sink", "data-sink": sink.sink },
      h("h3", {}, sink.sink),
      h("dl", { class: "pairs" }, [["read", number(sink.read, 0)], ["shipped", number(sink.shipped, 0)], ["buffered", number(sink.buffered, 0)],
        ["refused", number(sink.dead_lettered, 0)], ["sent again", number(sink.retries, 0)], ["oldest waiting", duration(sink.lag_s)]]
        .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]).flat()),
      sink.problem ? h("p", { class: "problem" }, sink.problem) : null)),
    ...(indexed ? [h("p", { "data-testid": "indexed", class: "foot", title: indexed.url },
      `Elasticsearch: of the last ${number(indexed.written, 0)} lines written, ${indexed.indexed === null ? UNKNOWN : number(indexed.indexed, 0)} are found by their ids.`)] : []),
  ]);
}
