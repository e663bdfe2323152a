// What each stage proposed and moved: columns of places, a line for each item between them.
// An item of the list is in every column, however deep it stood there; a rule marks left out places.

import { at, draw, make } from "./dom.js";
import { CHANNELS } from "./list.js";

const ROW = 24; // pixels; the same as --row in base.css
const ROWS = 20; // as many as the endpoint explains
const HEAD = 10; // first places that a column always shows

const STAGES = ["recall", "rank", "rerank"]; // the last one's list is shown where an LLM changed it
const NOTES = {
  recall: (item) => CHANNELS[item.channel] ?? item.channel,
  rank: (item) => item.score?.toFixed(3) ?? "–",
};

export function showFlow(items, proposed) {
  at("flow").hidden = !proposed?.recall || !proposed.rank || !items.length;
  if (at("flow").hidden) return;
  const by = new Map(items.map((item) => [item.item_id, item.placed_by]));
  const list = items.slice(0, ROWS);
  const stages = STAGES.filter((stage) => proposed[stage]);
  const columns = [
    ...stages.map((stage) => [stage, rowsOf(proposed[stage], list, by, `${stage}_position`, NOTES[stage])]),
    ["list", list.map((item, row) => ({ item, place: row + 1 }))],
  ];
  const height = ROW * Math.max(...columns.map(([, rows]) => rows.length));
  at("flow-chart").replaceChildren(...columns.flatMap(([name, rows], place) => [
    ...(place ? [lines(columns[place - 1][1], rows, by, height)] : []),
    column(name, rows, by),
  ]));
  at("flow-chart").classList.toggle("long", columns.length > 3);
  at("by-llm").hidden = !proposed.rerank;
}

// First places of a stage, shortened to make room for the items of the list that stood deeper.
function rowsOf(proposals, list, by, position, noteOf) {
  const row = (item, place) => ({ item, place, note: noteOf?.(item) });
  const known = new Set(proposals.map((item) => item.item_id));
  const deep = list.filter((item) => item[position] != null && !known.has(item.item_id));
  const head = Math.max(HEAD, ROWS - deep.length);
  const near = proposals.map((item, at) => row(item, at + 1));
  return [
    ...near.filter(({ item, place }) => place <= head || by.has(item.item_id)),
    ...deep.map((item) => row(item, item[position])).sort((a, b) => a.place - b.place),
  ];
}

function column(name, rows, by) {
  const nodes = rows.map(({ item, place, note }, at) => {
    const kept = by.has(item.item_id) ? "kept" : "";
    const gap = at > 0 && place !== rows[at - 1].place + 1 ? "gap" : "";
    const title = item.title || item.item_id;
    return make("li", { "data-item": item.item_id, class: `${kept} ${gap}` },
      make("span", { class: "place" }, String(place)),
      make("span", { class: "title", title }, title),
      note && make("span", { class: "note" }, note));
  });
  return make("div", { class: `column ${name}` }, make("h3", {}, name), make("ol", {}, nodes));
}

function lines(left, right, by, height) {
  const rows = new Map(right.map(({ item }, row) => [item.item_id, row]));
  const middle = (row) => ROW * (row + 0.5);
  const paths = left.flatMap(({ item: { item_id: id } }, row) => {
    if (!rows.has(id)) return [];
    const [y, z] = [middle(row), middle(rows.get(id))];
    const kept = by.has(id) ? `kept ${by.get(id)}` : "";
    return draw("path", { d: `M0 ${y} C50 ${y} 50 ${z} 100 ${z}`, "data-item": id, class: kept });
  });
  paths.sort((a, b) => a.classList.length - b.classList.length); // the items of the list lie on top
  const size = { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height };
  return draw("svg", { ...size, "aria-hidden": "true" }, paths);
}
