// What each stage proposed and moved: three columns of places, a line for each item between them.

import { at, draw, make } from "./dom.js";
import { CHANNELS } from "./list.js";

const ROW = 24; // pixels; the same as --row in style.css
const SHOWN = 20; // places that the endpoint explains

export function showFlow(items, proposed) {
  at("flow").hidden = !proposed?.recall || !proposed.rank || !items.length;
  if (at("flow").hidden) return;
  const final = items.slice(0, SHOWN).map(({ item_id, title }) => ({ item_id, title }));
  const places = placesOf(items, proposed);
  const recall = proposed.recall.map((item) => ({ ...item, note: CHANNELS[item.channel] ?? item.channel }));
  const rank = proposed.rank.map((item) => ({ ...item, note: item.score?.toFixed(3) ?? "–" }));
  const deeper = [...places.values()].some(({ way, by }) => by && way.some((place) => place >= SHOWN));
  const rows = Math.max(recall.length, rank.length, final.length);
  const height = ROW * (deeper ? rows + 1 : rows); // a row below for places not explained
  at("flow-chart").replaceChildren(
    column("Recall", recall, places, 0),
    lines(places, 0, height),
    column("Rank", rank, places, 1),
    lines(places, 1, height),
    column("List", final, places, 2),
  );
}

// By item id: its place (from 0) after recall, after rank and in the list; undefined if not known.
function placesOf(items, proposed) {
  const places = new Map();
  const of = (id) => places.get(id) ?? places.set(id, { way: [] }).get(id);
  proposed.recall.forEach((item, place) => (of(item.item_id).way[0] = place));
  proposed.rank.forEach((item, place) => (of(item.item_id).way[1] = place));
  items.forEach((item, place) => {
    const found = of(item.item_id);
    found.by = item.placed_by;
    found.way[0] ??= item.recall_position == null ? undefined : item.recall_position - 1;
    found.way[1] ??= item.rank_position == null ? undefined : item.rank_position - 1;
    found.way[2] = place;
  });
  return places;
}

function column(name, items, places, stage) {
  const rows = items.map((item, place) => {
    const { by } = places.get(item.item_id);
    return make("li", { "data-item": item.item_id, class: by ? `kept ${by}` : "" },
      make("span", { class: "place" }, String(place + 1)),
      make("span", { class: "title", title: item.title }, item.title || item.item_id),
      item.note && make("span", { class: "note" }, item.note));
  });
  const deeper = [...places.values()].filter((place) => place.by && place.way[stage] >= items.length);
  const numbers = deeper.map((place) => place.way[stage] + 1).sort((a, b) => a - b);
  const more = numbers.length > 0 && make("p", { class: "deeper" },
    "and ", numbers.join(", "));
  return make("div", { class: `column ${name.toLowerCase()}` },
    make("h3", {}, name), make("ol", {}, rows), more);
}

function lines(places, stage, height) {
  const middle = (place) => ROW * (Math.min(place, SHOWN) + 0.5);
  const paths = [];
  for (const [id, { way, by }] of places) {
    const [from, to] = [way[stage], way[stage + 1]];
    if (from === undefined || to === undefined || (from >= SHOWN && to >= SHOWN)) continue;
    const [y, z] = [middle(from), middle(to)];
    paths.push(draw("path", {
      d: `M0 ${y} C50 ${y} 50 ${z} 100 ${z}`,
      "data-item": id,
      class: by ? `kept ${by}` : "",
    }));
  }
  paths.sort((a, b) => a.classList.length - b.classList.length); // the items of the list lie on top
  const size = { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height };
  return draw("svg", { ...size, "aria-hidden": "true" }, paths);
}
