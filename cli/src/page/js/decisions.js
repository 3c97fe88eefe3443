// The decisions of the selected workload, newest first; each opens to show its reasons in order, its inputs, and what an HPA would do.

import { empty, h, keyed, slot } from "./dom.js";
import { clock, number, UNKNOWN } from "./format.js";

// As many as one answer of the API holds when nobody says how many.
const SHOWN_MAX = 50;

let shown = null;
let all = [];

/** The reason that set the size: the last that names it; else the last. */
export function deciding({ to, reasons }) {
  const named = reasons.findLast(({ values }) => values.replicas === to);
  return named ?? reasons.at(-1);
}

const direction = ({ from, to }) => (to > from ? "up" : to < from ? "down" : "hold");

function pairs(values) {
  const text = (value) => (value === null ? UNKNOWN : typeof value === "number" ? number(value, 3) : typeof value === "object"
    ? Object.entries(value).map(([k, v]) => `${k} ${text(v)}`).join(", ") : String(value));
  return h("dl", { class: "pairs" }, Object.entries(values).map(([name, value]) => [h("dt", {}, name), h("dd", {}, text(value))]).flat());
}

function reason({ code, text, values }, decisive) {
  return h("li", { "data-testid": "reason", "data-code": code, class: decisive ? "decisive" : null },
    h("span", { class: "code" }, code), h("span", { class: "text" }, text), Object.keys(values).length ? pairs(values) : null);
}

function body(decision) {
  const main = deciding(decision);
  const hpa = decision.baseline.hpa;
  return [
    h("h3", {}, "Reasons, in the order they were applied"),
    h("ol", { class: "reasons" }, decision.reasons.map((each) => reason(each, each === main))),
    h("h3", {}, "Decided on"), pairs(decision.inputs),
    h("h3", {}, "In comparison"),
    h("p", { "data-testid": "hpa" }, hpa === null ? "What a Kubernetes HPA would ask for cannot be said." : `A Kubernetes HPA with default settings would ask for ${hpa}.`),
  ];
}

function make(decision) {
  const main = deciding(decision);
  const hpa = decision.baseline.hpa;
  const head = h("summary", {},
    h("time", { datetime: decision.at }, clock(decision.at)),
    h("span", { class: "change", "data-direction": direction(decision) }, decision.from === decision.to ? `${decision.to}` : `${decision.from} → ${decision.to}`),
    h("span", { class: "hpa", title: "What a Kubernetes HPA would ask for" }, hpa === null ? "" : `HPA ${hpa}`),
    h("span", { class: "why" }, main ? main.text : "no reason given"));
  const element = h("details", { class: "decision", "data-testid": "decision", "data-direction": direction(decision), "data-code": main?.code }, head);
  // Most are never opened; what is inside is made when one is.
  element.addEventListener("toggle", () => {
    if (element.open && element.children.length === 1) element.append(h("div", { class: "inside" }, body(decision)));
  });
  return element;
}

function draw() {
  const place = slot("decisions");
  if (!all.length) {
    place.replaceChildren(empty("No decision yet. The first comes when the size changes or its reasons do."));
    return;
  }
  keyed(place, all, ({ at }) => at, make);
}

/** Shows the decisions as read from the API. */
export function showDecisions(id, decisions) {
  const opened = shown === id && all.length && decisions.length && decisions[0].at < all[0].at;
  // An answer that was under way when news came is older than what is shown.
  if (opened) return;
  if (shown !== id) slot("decisions").replaceChildren();
  shown = id;
  all = decisions.slice(0, SHOWN_MAX);
  draw();
}

/** Shows a decision that was just made. */
export function addDecision({ workload, ...decision }) {
  if (workload !== shown || all.some(({ at }) => at === decision.at)) return;
  all = [decision, ...all].sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, SHOWN_MAX);
  draw();
}
