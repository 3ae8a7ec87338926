import { element } from "./dom.js";
import { avatar, hueOf, withHue } from "./marks.js";

/** All connections of one user in this tab. */
export class Panel {
  element;
  #count = element("p");
  #cards = element("div", { class: "cards" });

  /** onAnother is called when the person wants another connection of the user. */
  constructor(user, { onAnother }) {
    this.element = withHue(element("section", { class: "panel", "aria-label": `User ${user}` },
      element("header", {}, avatar(user), element("div", {}, element("h2", {}, element("span", { class: "kind" }, "user "), element("bdi", {}, user)), this.#count),
        element("button", { class: "button small", type: "button", "aria-label": `Open another connection of ${user}`, onclick: onAnother }, "Open another")),
      this.#cards), hueOf.user(user));
  }

  get empty() {
    return this.#cards.childElementCount === 0;
  }

  add(card) {
    this.#cards.append(card.element);
    this.#recount();
  }

  remove(card) {
    card.element.remove();
    this.#recount();
  }

  #recount() {
    const n = this.#cards.childElementCount;
    this.#count.textContent = n === 1 ? "1 connection in this tab" : `${n} connections in this tab`;
    this.element.style.setProperty("--cards", n);
  }
}
