// The request as a form: its fields to a body, errors to the field they name, and a link to it.
// A link that asks a language model waits for a click: each opening of it would cost calls.

import { at, make, uniqueId } from "./dom.js";
import { Combobox } from "./combobox.js";

const MODES = { standard: "Standard", goal: "Goal (LLM)", tree: "Item tree (LLM)" };
const FIELDS = ["user_id", "scenario", "k", "mode", "goal", "deadline_ms"];

export class Form {
  constructor(send) {
    this.node = at("request");
    this.users = new Combobox(at("user_id"), at("users"), send);
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    at("mode").addEventListener("change", () => this.showGoal());
    at("new-user").addEventListener("click", () => {
      at("user_id").value = `guest-${uniqueId().slice(0, 8)}`;
      send();
    });
  }

  // Choices of the catalogue; then the values in the page's address, if it has any.
  offer(catalogue) {
    this.users.options = catalogue.users;
    const option = (value, text) => make("option", { value }, text);
    at("scenario").replaceChildren(...catalogue.scenarios.map(({ id, name }) => option(id, name)));
    at("mode").replaceChildren(...catalogue.modes.map((mode) => option(mode, MODES[mode] ?? mode)));
    at("mode-field").hidden = catalogue.modes.length < 2;
    at("k").max = catalogue.max_k;
    at("k").value = Math.min(10, catalogue.max_k);
    at("user_id").value = catalogue.users[0] ?? "";
    for (const [name, value] of new URLSearchParams(location.search)) {
      if (FIELDS.includes(name)) at(name).value = value;
    }
    for (const choice of [at("scenario"), at("mode")]) {
      if (choice.selectedIndex < 0) choice.selectedIndex = 0; // the address named one that is not here
    }
    this.showGoal();
  }

  get asksModel() {
    return !["", "standard"].includes(at("mode").value);
  }

  showGoal() {
    at("goal-field").hidden = at("mode").value !== "goal";
  }

  body() {
    const number = (name) => (at(name).value === "" ? undefined : Number(at(name).value));
    const mode = at("mode").value || "standard";
    return {
      user_id: at("user_id").value.trim(),
      scenario: at("scenario").value,
      k: number("k"),
      mode,
      goal: mode === "goal" ? at("goal").value.trim() || undefined : undefined,
      deadline_ms: number("deadline_ms"),
      explain: true,
    };
  }

  // The page's address asks for the same list when it is opened again.
  remember(body) {
    const named = FIELDS.filter((name) => body[name] !== undefined).map((name) => [name, body[name]]);
    history.replaceState(null, "", `?${new URLSearchParams(named)}`);
  }

  clearErrors() {
    for (const name of FIELDS) this.mark(name, "");
  }

  // Shows each error at the field it names; returns those that name no field of the form.
  showErrors(errors) {
    const here = errors.filter((error) => FIELDS.includes(error.field));
    for (const { field, message } of here) this.mark(field, message);
    if (here.length) at(here[0].field).focus();
    return errors.filter((error) => !here.includes(error));
  }

  mark(name, message) {
    at(`${name}-error`).textContent = message;
    at(name).toggleAttribute("aria-invalid", Boolean(message));
    if (message) at(name).setAttribute("aria-invalid", "true");
  }
}
