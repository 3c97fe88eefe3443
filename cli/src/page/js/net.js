// Talking with the API: JSON questions, and the stream of events with reconnection. The token, where one is needed, stays in this tab.

import { byId } from "./dom.js";

const ANSWER_WITHIN_MS = 15000;
// The server gives a sign of life every 10 s; three missed ones mean that the connection is dead.
const SILENCE_MAX_MS = 30000;
const RETRY_MAX_MS = 10000;
const TOKEN = "tidegate-token";

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, authorization: `Bearer ${token}` } : more;
}

let asking = null;

/** Asks for a token, once for all who wait for it. */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    dialog.addEventListener("close", () => {
      const input = byId("token-input");
      sessionStorage.setItem(TOKEN, input.value.trim());
      input.value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function ask(path, options = {}) {
  const request = { ...options, headers: headers(options.headers), signal: AbortSignal.timeout(ANSWER_WITHIN_MS) };
  const response = await fetch(path, request);
  if (response.status === 401) {
    await askForToken();
    return ask(path, options);
  }
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? response.statusText);
  return body;
}

/** Reads; throws an error with the problem's words. */
export const get = (path) => ask(path);

/** Sends; throws an error with the problem's words. */
export const post = (path, value) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });

/** The path of a workload; ids hold only characters that a path may hold. */
export const workloadPath = (id, below = "") => `/api/v1/workloads/${id}${below}`;

/** Splits a stream of text into server-sent events, each given to `give(name, data)`. */
function events(give) {
  let rest = "";
  return (text) => {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trimStart()]);
      const data = fields.filter(([name]) => name === "data").map(([, value]) => value).join("\n");
      const name = fields.find(([field]) => field === "event")?.[1];
      if (name && data) give(name, JSON.parse(data));
    }
  };
}

async function streamOnce(give, alive) {
  const stop = new AbortController();
  let watch = setTimeout(() => stop.abort(), SILENCE_MAX_MS);
  try {
    const response = await fetch("/api/v1/events", { headers: headers({ accept: "text/event-stream" }), signal: stop.signal });
    if (response.status === 401) await askForToken();
    if (!response.ok) throw new Error(`status ${response.status}`);
    alive();
    const feed = events(give);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(() => stop.abort(), SILENCE_MAX_MS);
      feed(value);
    }
  } finally {
    clearTimeout(watch);
  }
}

/** Listens for ever: `give(name, data)` for each event, `state("live" | "lost")` when the connection comes or goes. */
export async function listen(give, state) {
  let wait = 500;
  for (;;) {
    try {
      await streamOnce(give, () => {
        wait = 500;
        state("live");
      });
    } catch {
      // Whatever the cause, the answer is the same: say so, and try again.
    }
    state("lost");
    await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2)));
    wait = Math.min(wait * 2, RETRY_MAX_MS);
  }
}
