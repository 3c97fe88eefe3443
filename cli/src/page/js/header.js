// The head of the page: where it runs, whether it is live, what a reader must know first, light or dark.

import { byId, h, keyed, redraw, setText } from "./dom.js";
import { clock, duration, number } from "./format.js";

/** What the page should say before anything else, in order. */
function notes(about) {
  const all = [];
  if (about.demo) {
    const times = about.speed ? `, ${number(about.speed, 0)} times faster than a real one` : "";
    all.push(["demo", "Demo", `A day of load lasts ${duration(about.day_s)}${times}. All clocks, objectives and times are real.`]);
  }
  if (about.history_preloaded) {
    const { days, text } = about.history_preloaded;
    all.push(["history", "History preloaded", `${number(days, 1)} days: ${text}.`]);
  }
  return all.concat(about.notes.map((text, i) => [`note-${i}`, "Note", `${text[0].toUpperCase()}${text.slice(1)}`.replace(/\.?$/, ".")]));
}

/** Text in which what stands between backticks is code. */
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

export function showAbout(about) {
  const parts = [about.host, `version ${about.version}`, `since ${clock(about.started_at)}`];
  setText(byId("where"), parts.filter(Boolean).join(" · "));
  document.title = about.host ? `Tidegate · ${about.host}` : "Tidegate";
  keyed(byId("notes"), notes(about), ([key]) => key, ([key, title]) =>
    h("p", { "data-testid": `note-${key}` }, h("b", {}, title), " ", h("span")), (row, [, , text]) => redraw(row.querySelector("span"), text, prose));
}

/** Shows whether the page is live; `since` is when it last was. */
export function showConnection(state, since) {
  const link = byId("connection");
  link.dataset.state = state;
  setText(link.querySelector("span"), { live: "live", lost: "retrying", connecting: "connecting" }[state]);
  document.body.classList.toggle("stale", state === "lost");
  const banner = byId("banner");
  banner.hidden = state !== "lost";
  setText(banner, state === "lost" ? `Connection lost, retrying. What you see is from ${since ? clock(since) : "before"}.` : "");
}

/** Shows a failure that is not the connection's, until the next success. */
export function showFailure(text) {
  const banner = byId("banner");
  if (document.body.classList.contains("stale")) return;
  banner.hidden = !text;
  setText(banner, text ?? "");
}

const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

/** Lets the reader choose; `changed` is called when the colours differ from before. */
export function startTheme(changed) {
  const button = byId("theme-toggle");
  const show = () => {
    setText(button, dark() ? "Light" : "Dark");
    changed();
  };
  button.addEventListener("click", () => {
    const next = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("tidegate-theme", next);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}
