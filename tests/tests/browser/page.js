// What the tests ask of the page. Runs in it; sets `window.seen` and nothing else.
{
  const byId = (id) => document.querySelector(`[data-testid="${id}"]`);
  const all = (id) => [...document.querySelectorAll(`[data-testid="${id}"]`)];
  const text = (id) => byId(id)?.innerText ?? "";
  const shown = (element) => Boolean(element) && element.getClientRects().length > 0 && getComputedStyle(element).visibility !== "hidden";
  const row = (workload) => document.querySelector(`[data-testid="workload"][data-workload="${workload}"]`);
  const cell = (workload, label) => row(workload)?.querySelector(`[data-label="${label}"]`)?.innerText ?? "";

  const chart = () => byId("chart");
  const trace = (name) => chart().data.find((each) => each.name === name);
  // The charts write local time without a zone, which is how `Date` reads it.
  const millis = (time) => new Date(time).getTime();
  const lastKnown = (name) => trace(name).y.findLastIndex((value) => value !== null);
  const newest = (name) => millis(trace(name).x[lastKnown(name)]);
  const last = (name) => trace(name).y[lastKnown(name)];
  const range = () => chart().layout.xaxis.range.map(millis);
  // A moment's place over the topmost row of charts, in pixels of the page area.
  const placeOf = (time) => {
    const box = chart().querySelector(".nsewdrag").getBoundingClientRect();
    const [from, to] = range();
    return [box.x + (box.width * (time - from)) / (to - from), box.y + box.height / 2];
  };

  const lines = () => all("log-line").map((line) => ({
    at: line.querySelector("time").dateTime, class: line.dataset.class, workload: line.querySelector(".of").innerText, text: line.querySelector(".msg").innerText,
  }));

  window.seen = { byId, all, text, shown, row, cell, chart, trace, newest, last, range, placeOf, lines, kept: {} };
}
