// The recommended items, each with its way through the stages and what changed since the last list.

import { at, make, spoken } from "./dom.js";

export const CHANNELS = {
  two_tower: "two-tower",
  text: "text",
  recent: "recent likes",
  popular: "popular",
  tree: "item tree",
};
const ARROWS = { up: "↗", down: "↘", same: "→" };

export function showList(items, changes) {
  const rows = items.map((item, place) => row(item, place, changes?.moved.get(item.item_id)));
  at("items").replaceChildren(...rows);
  at("items").hidden = at("columns").hidden = !items.length;
  at("empty").hidden = items.length > 0;
  showGone(changes?.gone ?? []);
}

function showGone(gone) {
  at("gone").hidden = !gone.length;
  const titles = gone.map((item) => make("li", {}, item.title || item.item_id));
  at("gone").replaceChildren(make("span", {}, "Left the list:"), make("ul", {}, titles));
}

function row(item, place, change) {
  const title = item.title || item.item_id;
  return make(
    "li",
    { "data-item": item.item_id, class: `item ${change?.kind ?? ""}` },
    make("span", { class: "place" }, String(place + 1)),
    make("span", { class: "name" },
      make("span", { class: "title", title }, title),
      make("span", { class: "id" }, item.item_id)),
    changed(change),
    score(item.score),
    make("span", { class: "channel" }, spoken("found by "), CHANNELS[item.channel] ?? item.channel),
    way(item, place),
    make("span", { class: `stage ${item.placed_by}` }, spoken("placed by "), item.placed_by),
    make("span", { class: "actions" },
      button("like", "Like", title), button("view", "Seen", title)),
  );
}

function button(kind, word, title) {
  return make("button", { type: "button", "data-kind": kind, "aria-label": `${word}: ${title}` }, word);
}

function changed(change) {
  if (!change || change.kind === "same") return make("span", { class: "change" });
  const words = { new: "new", up: `▲${change.by}`, down: `▼${change.by}` };
  const said = { new: "new in the list", up: `up by ${change.by}`, down: `down by ${change.by}` };
  return make("span", { class: `change ${change.kind}` },
    make("span", { "aria-hidden": "true" }, words[change.kind]), spoken(said[change.kind]));
}

function score(value) {
  if (value === null || value === undefined) {
    return make("span", { class: "score", title: "rank gave none" },
      spoken("no score"), make("span", { "aria-hidden": "true" }, "–"));
  }
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", `${100 * Math.min(1, Math.max(0, value))}%`);
  return make("span", { class: "score" }, spoken("score "), value.toFixed(3), bar);
}

// 31 ↗ 4 ↗ 1: places after recall, after rank, and in the list.
function way(item, place) {
  const places = [item.recall_position, item.rank_position, place + 1];
  const steps = [step(places[0], places[1]), step(places[1], places[2])];
  const text = places.map((number) => make("span", {}, number == null ? "–" : String(number)));
  return make("span", { class: "way" },
    spoken("places after recall, after rank, in the list: "),
    text[0], steps[0], text[1], steps[1], text[2]);
}

function step(from, to) {
  const kind = from == null || to == null || from === to ? "same" : to < from ? "up" : "down";
  return make("span", { class: `arrow ${kind}`, "aria-hidden": "true" }, ARROWS[kind]);
}
