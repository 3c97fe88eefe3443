// Numbers, units and times for people. What is unknown is a dash, never a zero.

export const UNKNOWN = "–";

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** A number with at most `digits` decimals. */
export function number(value, digits = 1) {
  if (!known(value)) return UNKNOWN;
  return value.toLocaleString("en-GB", { minimumFractionDigits: 0, maximumFractionDigits: digits });
}

/** A number with exactly `digits` decimals, so that it does not jump while it moves. */
export function fixed(value, digits = 1) {
  if (!known(value)) return UNKNOWN;
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A share as percent; more decimals near 100 %, where they matter. */
export function percent(value, digits) {
  if (!known(value)) return UNKNOWN;
  const places = digits ?? (value > 0.9 && value < 1 ? 2 : 1);
  return `${fixed(value * 100, places)} %`;
}

/** A target in percent: as it was set, without zeros that say nothing. */
export const target = (value) => (known(value) ? `${number(value * 100, 3)} %` : UNKNOWN);

/** A length of time. */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const [size, name] = units.find(([size]) => seconds >= size);
  return `${number(seconds / size, 1)} ${name}`;
}

/** Bytes with a binary prefix. */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const prefixes = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const power = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), prefixes.length - 1);
  return `${number(value / 1024 ** power, power ? 1 : 0)} ${prefixes[power]}`;
}

/** A value in the unit of its signal. */
export function quantity(value, unit) {
  if (!known(value)) return UNKNOWN;
  switch (unit) {
    case "ratio": return percent(value, 1);
    case "s": return duration(value);
    case "h": return duration(value * 3600);
    case "B": return bytes(value);
    case "B/s": return `${bytes(value)}/s`;
    case "1": return number(value, 2);
    default: return `${fixed(value, 1)} ${unit}`;
  }
}

const two = (n) => String(n).padStart(2, "0");

/** The time of day where the reader is. */
export function clock(iso) {
  const at = new Date(iso);
  if (!iso || Number.isNaN(at.getTime())) return UNKNOWN;
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Date and time where the reader is, in the form that the charts take; they know no zones. */
export function local(millis) {
  const at = new Date(millis);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** How long ago. */
export function ago(iso, now = Date.now()) {
  if (!iso) return UNKNOWN;
  const seconds = (now - Date.parse(iso)) / 1000;
  return seconds < 1 ? "just now" : `${duration(seconds)} ago`;
}

/** `digits_serve` → `digits serve`. */
export const words = (name) => (name ?? UNKNOWN).replaceAll("_", " ");

/** The last part of a workload's id. */
export const shortName = (id) => id.split("/").slice(2).join("/") || id;
