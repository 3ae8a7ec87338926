import { element } from "./dom.js";
import { connectionTag } from "./marks.js";
import { Problem } from "./connection.js";
import { toGroup, toUser } from "./message.js";

let composers = 0;

/**
 * The form that sends from a connection, to a group or to a user. It shows which
 * connections of this tab are addressed, as membersOf(selector, name) tells them.
 */
export class Composer {
  element;
  #connection;
  #membersOf;
  #onSent;
  #onAim;
  #selector = "group";
  #names = { group: "", user: "" }; // what was last entered for each
  #name = element("input", { name: "name", maxlength: 64, spellcheck: "false", autocapitalize: "none", autocomplete: "off" });
  #message = element("input", { name: "message", maxlength: 2000, autocomplete: "off", placeholder: "Message", "aria-label": "Message" });
  #reach = element("p", { class: "reach" });
  #problem = element("p", { class: "problem", role: "alert" });

  /** onSent is called with (selector, name, text), and onAim with (selector, name), which is empty when nobody is aimed at. */
  constructor(connection, { membersOf, onSent, onAim }) {
    this.#connection = connection;
    this.#membersOf = membersOf;
    this.#onSent = onSent;
    this.#onAim = onAim;
    const radios = `selector-${++composers}`;
    const choice = (selector) => element("label", { class: `choice is-${selector}` },
      element("input", { type: "radio", name: radios, value: selector, checked: selector === this.#selector, onchange: () => this.#choose(selector) }),
      element("span", {}, selector));
    this.element = element("form", { class: "composer", "aria-label": "Send", autocomplete: "off", novalidate: true,
      onsubmit: (event) => this.#submit(event),
      onfocusin: () => this.#aim(),
      onfocusout: () => this.#onAim(this.#selector, ""),
      oninput: () => this.#edited() },
    element("fieldset", {},
      element("legend", {}, "Send to"), element("span", { class: "send-to", "aria-hidden": "true" }, "Send to"), choice("group"), choice("user"), this.#name),
    element("div", { class: "say" }, this.#message, element("button", { class: "button primary" }, "Send")),
    this.#reach, this.#problem);
    this.#choose("group");
  }

  focus() {
    this.#message.focus();
  }

  /** Sends to this group from now on, if no group is entered yet. */
  suggest(group) {
    if (this.#names.group !== "") return;
    this.#names.group = group;
    if (this.#selector === "group") this.#name.value = group;
  }

  /** Takes back what it said of the last try to send. */
  forgive() {
    this.#problem.textContent = "";
  }

  /** Shows who is addressed, which changes with the connections of the tab. */
  refresh() {
    const name = this.#name.value.trim();
    if (name === "") {
      this.#reach.replaceChildren(this.#selector === "group" ? "All connections that joined the group get it." : "All connections of the user get it.");
      return;
    }
    const members = this.#membersOf(this.#selector, name);
    this.#reach.replaceChildren(...members.length === 0 ? ["Nobody in this tab gets it; in other tabs, perhaps."]
      : ["In this tab it reaches ", ...members.map((c) => connectionTag(c.id, this.#selector === "group" ? c.user : null))]);
  }

  #choose(selector) {
    this.#selector = selector;
    this.#name.value = this.#names[selector];
    this.#name.setAttribute("list", `${selector}s`);
    this.#name.setAttribute("aria-label", `Name of the ${selector}`);
    this.#name.placeholder = selector === "group" ? "group, such as lobby" : "user, such as ben";
    this.#edited();
  }

  #edited() {
    this.#names[this.#selector] = this.#name.value;
    this.forgive();
    this.refresh();
    this.#aim();
  }

  #aim() {
    if (this.element.contains(document.activeElement)) this.#onAim(this.#selector, this.#name.value.trim());
  }

  async #submit(event) {
    event.preventDefault();
    const selector = this.#selector;
    const name = this.#name.value.trim();
    const text = this.#message.value;
    this.forgive();
    try {
      if (name === "") throw this.#missing(this.#name, `Which ${selector} shall get it?`);
      if (text.trim() === "") throw this.#missing(this.#message, "There is nothing to send yet: write a message.");
      this.#message.value = "";
      const sender = this.#connection.user;
      if (selector === "group") await this.#connection.sendToGroup(name, toGroup(name, sender, text));
      else await this.#connection.sendToUser(name, toUser(sender, text));
      this.#onSent(selector, name, text);
    } catch (problem) {
      if (this.#message.value === "") this.#message.value = text;
      this.#problem.textContent = problem.message;
    }
  }

  #missing(field, words) {
    field.focus();
    return new Problem(words);
  }
}
