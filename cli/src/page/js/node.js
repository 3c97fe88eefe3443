// The machine that Tidegate runs on: its last readings.

import { Signal } from "./signals.js";
import { empty, h, keyed, setText, slot } from "./dom.js";
import { get } from "./net.js";
import { bytes, percent, quantity } from "./format.js";

const help = Object.fromEntries(Object.values(Signal).map((signal) => [signal.name, signal.help]));

/** Readings as lines of [key, name, text, help]; what belongs together stands in one line. */
function lines(readings) {
  const find = (signal, part = null) => readings.find((r) => r.signal === signal.name && r.part === part)?.value ?? null;
  const out = [];
  const add = (signal, name, text) => readings.some((r) => r.signal === signal.name && r.part === null) && out.push([name, name, text, help[signal.name]]);
  add(Signal.CpuBusyRatio, "CPU busy", percent(find(Signal.CpuBusyRatio), 1));
  add(Signal.Load1, "Load, 1 min", quantity(find(Signal.Load1), "1"));
  add(Signal.MemoryAvailableBytes, "Memory available", `${bytes(find(Signal.MemoryAvailableBytes))} of ${bytes(find(Signal.MemoryTotalBytes))}`);
  add(Signal.CpuPressureRatio, "CPU pressure", percent(find(Signal.CpuPressureRatio), 1));
  add(Signal.MemoryPressureRatio, "Memory pressure", percent(find(Signal.MemoryPressureRatio), 1));
  add(Signal.IoPressureRatio, "Disk pressure", percent(find(Signal.IoPressureRatio), 1));
  const mounts = readings.filter((r) => r.signal === Signal.FilesystemAvailableBytes.name).map((r) => r.part);
  for (const mount of mounts) {
    const hours = find(Signal.FilesystemHoursUntilFull, mount);
    const full = hours === null ? "" : `, full in ${quantity(hours, "h")}`;
    out.push([`fs ${mount}`, `Free on ${mount}`, `${bytes(find(Signal.FilesystemAvailableBytes, mount))} of ${bytes(find(Signal.FilesystemSizeBytes, mount))}${full}`, help[Signal.FilesystemAvailableBytes.name]]);
  }
  return out;
}

/** Shows the last readings. */
export async function refreshNode() {
  const { readings } = await get("/api/v1/node");
  const place = slot("node");
  const all = lines(readings);
  if (!all.length) {
    place.replaceChildren(empty("No reading yet."));
    return;
  }
  keyed(place, all, ([key]) => key, ([, name, , title]) => h("div", { class: "reading", title, "data-testid": "node-reading" }, h("span", {}, name), h("b")),
    (element, [, , text]) => setText(element.children[1], text));
}
