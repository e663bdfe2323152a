// The console page: one request at a time, its answer, and events that change the next one.

import * as api from "./api.js";
import { showDegraded, showOrigin, showTimings, showTrace } from "./answer.js";
import { changesBetween } from "./changes.js";
import { at, count, uniqueId } from "./dom.js";
import { showFlow } from "./flow.js";
import { Form } from "./form.js";
import { forgetHistory, showHistory } from "./history.js";
import { showList } from "./list.js";

const form = new Form(() => ask());
let shown = null; // {key, items, user, liked} of the answer on the page
let turn = new AbortController();
let asking = 0; // timer: a quick answer does not change the button's word
let repeat = () => ask(); // what the button of the notice does

async function start() {
  repeat = start;
  try {
    const catalogue = await api.catalogue();
    form.offer(catalogue);
    const { topology, items, bundle } = catalogue;
    at("about").textContent = `${count(items, "item")} · ${topology} · bundle ${bundle}`;
    at("about").hidden = false;
  } catch (error) {
    return refuse(error);
  }
  if (at("user_id").value && !form.asksModel) await ask();
}

// Ask for the list that the form describes; a request still under way is given up.
// Says whether the list came.
async function ask(said = "") {
  turn.abort();
  const { signal } = (turn = new AbortController());
  repeat = () => ask();
  const body = form.body();
  form.clearErrors();
  form.remember(body);
  at("notice").hidden = true;
  busy(true);
  const begun = performance.now();
  const [answer, user] = await Promise.allSettled([
    api.recommend(body, signal).then((found) => ({ ...found, seenMs: performance.now() - begun })),
    api.user(body.user_id, signal),
  ]);
  if (signal.aborted) return false;
  busy(false);
  if (answer.status === "rejected") {
    refuse(answer.reason);
    return false;
  }
  showAnswer(answer.value, body, said);
  showUser(user, body.user_id);
  return true;
}

function showAnswer(answer, body, said) {
  const key = JSON.stringify(body);
  const changes = shown?.key === key ? changesBetween(shown.items, answer.items) : null;
  shown = { ...shown, key, items: answer.items };
  at("answer").hidden = false;
  at("answer").classList.remove("stale");
  showTimings(answer, body.deadline_ms, answer.seenMs);
  showOrigin(answer);
  showDegraded(answer.degraded);
  showList(answer.items, changes);
  showFlow(answer.items, answer.proposed);
  showTrace(answer.llm);
  at("summary").textContent = [said, summary(answer, body, changes)].filter(Boolean).join(" ");
}

function summary({ items, degraded }, { user_id: user }, changes) {
  const skipped = degraded.length ? " Degraded." : "";
  const list = `${count(items.length, "item")} for user ${user}.${skipped}`;
  if (!changes) return list;
  const kinds = [...changes.moved.values()].map((change) => change.kind);
  const counts = ["new", "up", "down"].map((kind) => [kinds.filter((k) => k === kind).length, kind]);
  counts.push([changes.gone.length, "gone"]);
  const words = counts.filter(([n]) => n).map(([n, kind]) => `${n} ${kind}`).join(", ");
  return `${list} ${words ? `Changed: ${words}.` : "Nothing changed."}`;
}

function showUser(result, id) {
  if (result.status === "rejected") {
    forgetHistory();
    return tell(`The history could not be read: ${result.reason.message}.`);
  }
  showHistory(result.value, shown.user === id ? shown.liked : null);
  const liked = new Set(result.value.liked.map((item) => item.item_id));
  shown = { ...shown, user: id, liked };
}

function refuse(error) {
  if (!(error instanceof api.Refusal)) throw error;
  if (error.status === 401) return askForToken(error);
  at("answer").classList.add("stale");
  const rest = form.showErrors(error.errors);
  if (!rest.length) return;
  const words = rest.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join("; ");
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  const heads = { 0: "", 429: "Too many requests (429): ", 503: "Overloaded (503): " };
  tell(`${heads[error.status] ?? `Refused (${error.status}): `}${words}.${wait}`);
}

function tell(text) {
  at("notice-text").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  at("notice-old").hidden = at("answer").hidden || !at("answer").classList.contains("stale");
  at("notice").hidden = false;
}

function askForToken(error) {
  at("token-form").hidden = false;
  at("token-error").textContent = api.token.get() ? `${error.message}: this one was refused` : error.message;
  at("token").focus();
}

function busy(is) {
  at("answer").setAttribute("aria-busy", String(is));
  document.body.classList.toggle("busy", is);
  clearTimeout(asking);
  asking = setTimeout(() => (at("send").textContent = is ? "Asking…" : "Recommend"), is ? 200 : 0);
}

async function react(button) {
  const row = button.closest("[data-item]");
  const place = [...at("items").children].indexOf(row);
  const { kind } = button.dataset;
  const { user_id, scenario } = JSON.parse(shown.key);
  const event = { event_id: uniqueId(), user_id, item_id: row.dataset.item, kind, scenario };
  row.classList.add("sent");
  button.disabled = true;
  try {
    await api.sendEvent(event);
  } catch (error) {
    row.classList.remove("sent");
    button.disabled = false;
    return refuse(error);
  }
  const title = row.querySelector(".title").textContent;
  const said = kind === "like" ? `Liked ${title}.` : `Marked ${title} as seen.`;
  if (!(await ask(said))) return;
  // the row that was used is gone: a keyboard goes on at the same place of the new list
  const next = at("items").children[Math.min(place, at("items").children.length - 1)];
  next?.querySelector(`[data-kind=${kind}]`).focus({ preventScroll: true });
}

// All places where an item stands light up together.
function light(target) {
  const id = target?.closest?.("[data-item]")?.dataset.item;
  for (const node of document.querySelectorAll("[data-item]")) {
    node.classList.toggle("lit", id !== undefined && node.dataset.item === id);
  }
}

at("items").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-kind]");
  if (button) react(button);
});
at("retry").addEventListener("click", () => repeat());
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.token.set(at("token").value.trim());
  at("token-error").textContent = "";
  at("token-form").hidden = true;
  repeat();
});
document.addEventListener("pointerover", (event) => light(event.target));
document.addEventListener("focusin", (event) => light(event.target));

start();
