// Faults to try in the demo. The reasons and conditions name what each does.

import { h, redraw, setText, slot } from "./dom.js";
import { get, post } from "./net.js";
import { clock, shortName, words } from "./format.js";

const PATH = "/api/v1/demo/faults";

async function trigger(button, workload, fault, said) {
  button.disabled = true;
  try {
    draw(await post(PATH, { workload, fault }));
    setText(slot("fault-said"), fault === "clear" ? `Cleared for ${shortName(workload)}.` : `Asked: ${words(fault)} of ${shortName(workload)}.`);
  } catch (error) {
    setText(slot("fault-said") ?? said, `Not done: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

function button(workload, fault) {
  const element = h("button", { type: "button", "data-testid": `fault-${fault}`, "data-workload": workload, class: fault === "clear" ? "quiet" : null }, words(fault));
  element.addEventListener("click", () => trigger(element, workload, fault, element));
  return element;
}

function draw({ targets, running }) {
  const place = slot("faults");
  if (!place.querySelector("[data-slot=fault-list]")) {
    place.replaceChildren(h("div", { "data-slot": "fault-list" }), h("p", { class: "foot", "data-slot": "fault-said", role: "status", "data-testid": "fault-said" }));
  }
  redraw(slot("fault-list"), { targets, running }, () => targets.map(({ workload, faults }) => {
    const holding = running.filter((each) => each.workload === workload);
    return h("div", { class: "fault", "data-testid": "fault-target", "data-workload": workload },
      h("h3", {}, shortName(workload)),
      h("div", { class: "buttons" }, faults.map((fault) => button(workload, fault)), holding.length ? button(workload, "clear") : null),
      holding.map((each) => h("p", { class: "holding", "data-testid": "fault-running", "data-fault": each.fault }, `${words(each.fault)}, since ${clock(each.since)}`)));
  }));
}

/** Shows the faults; the panel exists in the demo alone. */
export async function refreshFaults(demo) {
  slot("faults").parentElement.hidden = !demo;
  if (demo) draw(await get(PATH));
}
