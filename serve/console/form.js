// The request as a form: its fields to a body, errors to the field they name, and a link to it.
// A link that asks a language model waits for a click: each opening of it would cost calls.

import { at, make, uniqueId } from "./dom.js";
import { Combobox } from "./combobox.js";

const MODES = { standard: "Standard", goal: "Goal (LLM)", tree: "Item tree (LLM)" };
const FIELDS = ["user_id", "scenario", "k", "mode", "goal", "deadline_ms"];

export class Form {
  constructor(send) {
    this.node = at("request");
    this.context = [];
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
    this.offerContext(catalogue.context ?? []);
    for (const [name, value] of new URLSearchParams(location.search)) {
      if (this.names().includes(name)) at(name).value = value;
    }
    for (const choice of [at("scenario"), at("mode")]) {
      if (choice.selectedIndex < 0) choice.selectedIndex = 0; // the address named one that is not here
    }
    this.showGoal();
  }

  get asksModel() {
    return !["", "standard"].includes(at("mode").value);
  }

  // One input for each context field; its id is the name that an error gives to it.
  offerContext(fields) {
    this.context = fields.map((field) => ({ ...field, id: `context.${field.name}` }));
    at("context").replaceChildren(...this.context.map(({ id, name, kind, follows_scenario: follows }) =>
      make("div", { class: "field" },
        make("label", { for: id }, name),
        make("input", {
          id, type: kind === "number" ? "number" : "text", step: kind === "number" && "any", maxlength: "256",
          placeholder: follows ? "from the scenario" : "unknown", "aria-describedby": `${id}-error`,
        }),
        make("p", { id: `${id}-error`, class: "error" }))));
  }

  names() {
    return [...FIELDS, ...this.context.map(({ id }) => id)];
  }

  showGoal() {
    at("goal-field").hidden = at("mode").value !== "goal";
  }

  body() {
    const number = (name) => (at(name).value === "" ? undefined : Number(at(name).value));
    const mode = at("mode").value || "standard";
    const said = this.context.filter(({ id }) => at(id).value !== "");
    const context = said.map(({ id, name, kind }) => [name, kind === "number" ? number(id) : at(id).value]);
    return {
      user_id: at("user_id").value.trim(),
      scenario: at("scenario").value,
      context: context.length ? Object.fromEntries(context) : undefined,
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
    const context = Object.entries(body.context ?? {}).map(([name, value]) => [`context.${name}`, value]);
    history.replaceState(null, "", `?${new URLSearchParams([...named, ...context])}`);
  }

  clearErrors() {
    for (const name of this.names()) this.mark(name, "");
  }

  // Shows each error at the field it names; returns those that name no field of the form.
  showErrors(errors) {
    const names = this.names();
    const here = errors.filter((error) => names.includes(error.field));
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
