// What is said of an answer as a whole: timings, version, stages that were skipped, the LLM's trace.

import { at, count, make, milliseconds } from "./dom.js";

const STAGES = ["recall", "rank", "rerank", "llm"];
const REASONS = {
  late: "would not have met the deadline",
  failed: "failed",
  overloaded: "was overloaded",
};
const INSTEAD = {
  recall: "popular items stand in",
  rank: "items keep the order of recall and have no scores",
  rerank: "items keep the order before it",
  llm: "what it had not done by then is as the stages left it",
};

export function showTimings(answer, deadline, seenMs) {
  const spent = answer.timings_ms;
  const named = STAGES.filter((stage) => stage in spent);
  const sum = named.reduce((total, stage) => total + spent[stage], 0);
  const total = spent.total ?? sum;
  const rest = Math.max(0, total - sum);
  const parts = [...named.map((stage) => [stage, spent[stage]]), ["rest", rest]];
  at("bar").replaceChildren(...parts.map(([stage, ms]) => segment(stage, ms, Math.max(total, sum))));
  at("legend").replaceChildren(...parts.map(([stage, ms]) =>
    make("li", { class: stage }, stage, " ", make("b", {}, milliseconds(ms)))));
  at("total").textContent = milliseconds(total);
  const beside = [deadline && `deadline ${milliseconds(deadline)}`, `${milliseconds(seenMs)} in the browser`];
  at("beside").textContent = beside.filter(Boolean).join(" · ");
}

function segment(stage, ms, whole) {
  const part = make("span", { class: stage, title: `${stage} ${milliseconds(ms)}` });
  part.style.flexGrow = String(whole > 0 ? ms / whole : 0);
  return part;
}

export function showOrigin(answer) {
  at("bundle").textContent = answer.bundle;
  at("variant").textContent = answer.variant ?? "–";
  at("trace").textContent = answer.trace_id ?? "–";
}

export function showDegraded(degraded) {
  at("degraded").hidden = !degraded.length;
  at("degraded-list").replaceChildren(...degraded.map(({ stage, reason }) => {
    const instead = INSTEAD[stage] ? `: ${INSTEAD[stage]}` : "";
    return make("li", {}, make("b", {}, stage), ` ${REASONS[reason] ?? reason}${instead}.`);
  }));
}

export function showTrace(llm) {
  at("llm").hidden = !llm;
  if (!llm) return;
  at("llm-sum").textContent = `${count(llm.calls, "call")}, ${count(llm.tokens, "token")}. Ended by: ${llm.stop}.`;
  at("llm-nodes").replaceChildren(...llm.nodes.map(({ node, ...facts }) =>
    make("li", {}, make("b", {}, String(node)), make("span", { class: "facts" }, words(facts)))));
}

// `ms 310.5 · tokens 590` of whatever the node says of itself.
function words(facts) {
  const said = (value) => (typeof value === "number" ? +value.toFixed(3)
    : typeof value === "string" ? value : JSON.stringify(value));
  return Object.entries(facts).map(([name, value]) => `${name} ${said(value)}`).join(" · ");
}
