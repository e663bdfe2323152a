// What is known of the user, newest first.

import { at, count, make } from "./dom.js";

// `before`: item ids of the last history of the same user, or null.
export function showHistory(user, before) {
  at("history").hidden = false;
  const { liked } = user;
  at("history-sum").textContent = sum(user);
  at("likes").replaceChildren(...liked.map((item) => {
    const fresh = before !== null && !before.has(item.item_id);
    return make("li", { "data-item": item.item_id, class: fresh ? "new" : "" },
      make("span", { class: "title" }, item.title || item.item_id),
      fresh && make("span", { class: "change new" }, "new"),
      item.scenario && make("span", { class: "scenario" }, item.scenario));
  }));
  at("no-likes").hidden = liked.length > 0;
}

function sum({ known, liked, views }) {
  const likes = liked.length >= 50 ? "last 50 likes" : count(liked.length, "like");
  const seen = `${likes}, ${views.toLocaleString("en")} more seen`;
  return known ? seen : `${seen}. Not known to the bundle: a cold start.`;
}

export function forgetHistory() {
  at("history").hidden = true;
}
