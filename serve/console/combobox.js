// A text field with a list to choose from; any other text is allowed too.
// Opening shows every option, typing narrows them. Follows the ARIA pattern "combobox".

import { make } from "./dom.js";

export class Combobox {
  constructor(input, list, onPick) {
    this.input = input;
    this.list = list;
    this.onPick = onPick;
    this.options = [];
    this.active = -1;
    input.addEventListener("input", () => this.open(input.value.trim()));
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => this.open());
    input.addEventListener("blur", () => this.close());
    input.addEventListener("keydown", (event) => this.key(event));
    // pressing the mouse must not take the focus, or the list closes before the click
    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => this.pick(event.target.closest("[role=option]")));
  }

  open(filter = "") {
    const wanted = filter.toLowerCase();
    const shown = this.options.filter((option) => option.toLowerCase().includes(wanted));
    const nodes = shown.map((option, row) =>
      make("li", { role: "option", id: `${this.list.id}-${row}`, "aria-selected": "false" }, option));
    this.list.replaceChildren(...nodes);
    this.list.hidden = !nodes.length;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    this.move(-1);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  move(row) {
    const nodes = [...this.list.children];
    this.active = row;
    nodes.forEach((node, at) => node.setAttribute("aria-selected", String(at === row)));
    if (row < 0) return this.input.removeAttribute("aria-activedescendant");
    this.input.setAttribute("aria-activedescendant", nodes[row].id);
    nodes[row].scrollIntoView({ block: "nearest" });
  }

  pick(node) {
    if (!node) return;
    this.input.value = node.textContent;
    this.close();
    this.onPick();
  }

  key(event) {
    const { key } = event;
    const size = this.list.children.length;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (this.list.hidden) return this.open();
      const step = key === "ArrowDown" ? 1 : -1;
      return this.move(this.active < 0 && step < 0 ? size - 1 : (this.active + step + size) % size);
    }
    if (key === "Escape" && !this.list.hidden) {
      event.preventDefault();
      return this.close();
    }
    if (key === "Enter" && !this.list.hidden && this.active >= 0) {
      event.preventDefault(); // chooses; does not send the form
      return this.pick(this.list.children[this.active]);
    }
    if (key === "Enter") this.close();
  }
}
