import { element } from "./dom.js";

/** Says received messages to a screen reader, each once, to however many connections it came. */
export class Announcer {
  #region;
  #last = { key: null, ids: new Set() };

  constructor(region) {
    this.#region = region;
  }

  received(connection, { method, text }, { selector, group, sender, connection: who, change, text: said }) {
    const key = `${method} ${text}`;
    if (this.#last.key === key && !this.#last.ids.has(connection.id)) {
      this.#last.ids.add(connection.id);
      return;
    }
    this.#last = { key, ids: new Set([connection.id]) };
    if (change && who === connection.id) this.#say(`${connection.user} joined the group ${group}.`);
    else if (change) this.#say(`A connection ${change} the group ${group}.`);
    else this.#say(`${sender ?? "Somebody"} to ${selector} ${(selector === "group" ? group : connection.user) ?? ""}: ${said}`);
  }

  #say(text) {
    this.#region.append(element("p", {}, text));
    while (this.#region.childElementCount > 5) this.#region.firstElementChild.remove();
  }
}
