import { Composer } from "./composer.js";
import { appendTo, element, timeOf } from "./dom.js";
import { connectionTag, groupTag, hueOf, shortID, userTag, withHue } from "./marks.js";

const limit = 200;

const states = {
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  disconnected: "Disconnected",
  closed: "Closed",
};

const memberships = { joining: "joining", joined: "", leaving: "leaving", waiting: "waiting" };

/** One connection on the page: its state, its groups, what came to it, and what to send. */
export class Card {
  element;
  #connection;
  #composer;
  #title = element("h3");
  #state = element("span", { class: "state", role: "status" });
  #trouble = element("div", { class: "trouble", role: "status" });
  #chips = element("ul", { class: "chips", "aria-label": "Groups of this connection" });
  #shown = new Map(); // group name -> its chip
  #group = element("input", { name: "group", maxlength: 64, list: "groups", placeholder: "another group", "aria-label": "Group to join",
    spellcheck: "false", autocapitalize: "none", autocomplete: "off" });
  #problem = element("p", { class: "problem", role: "alert" });
  #feed = element("ol", { class: "feed", tabindex: 0 });

  /** onClose is called when the person closes the connection; the rest is the composer's. */
  constructor(connection, { membersOf, onAim, onClose }) {
    this.#connection = connection;
    this.#composer = new Composer(connection, { membersOf, onAim, onSent: (...sent) => this.#sent(...sent) });
    this.element = element("article", { class: "card" },
      element("header", {}, this.#title, this.#state,
        element("button", { class: "icon close", type: "button", "aria-label": "Close this connection", title: "Close this connection", onclick: onClose }, "×")),
      this.#trouble,
      element("div", { class: "membership" }, this.#chips,
        element("form", { class: "join", "aria-label": "Join a group", novalidate: true, onsubmit: (event) => this.#join(event) },
          this.#group, element("button", { class: "button small" }, "Join"))),
      this.#problem, this.#feed, this.#composer.element);
    withHue(this.element, hueOf.user(connection.user));
    this.refresh();
  }

  /** Puts the cursor where one writes. */
  focus() {
    this.#composer.focus();
  }

  /** Whether what is being written, somewhere in this tab, is for this connection. */
  set aimed(aimed) {
    this.element.toggleAttribute("data-aimed", aimed);
  }

  /** Shows the connection as it is, and whom its composer addresses. */
  refresh() {
    const { user, id, state, problem, groups } = this.#connection;
    const name = id === null ? `${user}, connecting` : `${user}, connection ${shortID(id)}`;
    if (state !== this.element.dataset.state && state === "connected") {
      this.#problem.textContent = "";
      this.#composer.forgive();
    }
    this.element.dataset.state = state;
    if (this.element.getAttribute("aria-label") !== name) {
      this.element.setAttribute("aria-label", name);
      this.#feed.setAttribute("aria-label", `What came to ${name}`);
      this.#title.replaceChildren(element("span", { class: "kind" }, "connection "), id === null ? "…" : connectionTag(id));
    }
    if (this.#state.textContent !== states[state]) this.#state.textContent = states[state];
    if (this.#trouble.firstChild?.textContent !== problem) this.#showTrouble(state, problem);
    this.#showGroups(groups);
    this.#composer.refresh();
  }

  /** Shows a message, as message.js read it. */
  received({ selector, group, sender, connection, change, text }) {
    if (change) {
      const who = connection === this.#connection.id ? "This connection" : connectionTag(connection);
      this.#add(element("li", { class: "notice" }, who, ` ${change} `, groupTag(group), this.#now()));
      return;
    }
    const to = selector === "group" ? groupTag(group) : userTag(this.#connection.user);
    const from = sender === null ? element("i", {}, "somebody") : userTag(sender);
    this.#add(withHue(element("li", { class: `message by-${selector}` },
      element("p", { class: "route" }, element("span", { class: "by" }, `by ${selector} `, to), element("span", { class: "from" }, " from ", from), this.#now()),
      element("p", { class: "text", dir: "auto" }, text)), selector === "group" ? hueOf.group(group) : hueOf.user(this.#connection.user)));
    this.#flash();
  }

  /** Says that the connection is lost, and what that means. */
  lost() {
    const groups = [...this.#connection.groups.keys()].map(groupTag);
    const ended = groups.length === 0 ? [] : [" Its membership of ", ...groups, " ended with it."];
    this.#add(element("li", { class: "notice warning" }, "The connection is lost.", ...ended, this.#now()));
  }

  /** Says that it is back, as another connection. */
  returned({ id, was }) {
    const groups = [...this.#connection.groups.keys()].map(groupTag);
    const again = groups.length === 0 ? [] : [" The old one’s membership of groups has ended, so it joins again: ", ...groups];
    this.#add(element("li", { class: "notice good" }, "Back, as a new connection: ", connectionTag(id), " instead of ", connectionTag(was), ".", ...again, this.#now()));
  }

  /** Says what could not be done, in words. */
  failed(problem) {
    this.#problem.textContent = problem;
  }

  #sent(selector, name, text) {
    const to = selector === "group" ? groupTag(name) : userTag(name);
    this.#add(element("li", { class: "notice sent" }, `Sent to ${selector} `, to, element("q", {}, text), this.#now()));
  }

  async #join(event) {
    event.preventDefault();
    const group = this.#group.value.trim();
    this.#problem.textContent = "";
    try {
      if (group === "") {
        this.#group.focus();
        this.#problem.textContent = "Which group shall it join?";
        return;
      }
      await this.#connection.join(group);
      this.#group.value = "";
    } catch (problem) {
      this.#problem.textContent = problem.message;
    }
  }

  async #leave(group) {
    this.#problem.textContent = "";
    this.#group.focus(); // the button that was pressed goes away
    try {
      await this.#connection.leave(group);
    } catch (problem) {
      this.#problem.textContent = problem.message;
    }
  }

  #showTrouble(state, problem) {
    const again = element("button", { class: "button small", type: "button", onclick: () => { this.focus(); this.#connection.open(); } }, "Connect again");
    this.#trouble.replaceChildren(...problem === "" ? [] : [element("p", {}, problem)], ...state === "disconnected" ? [again] : []);
  }

  #showGroups(groups) {
    for (const [group, chip] of this.#shown) {
      if (groups.has(group)) continue;
      chip.remove();
      this.#shown.delete(group);
    }
    for (const [group, membership] of groups) {
      if (!this.#shown.has(group)) this.#addChip(group);
      const chip = this.#shown.get(group);
      chip.dataset.membership = membership;
      const words = chip.querySelector(".membership-state");
      if (words.textContent !== memberships[membership]) words.textContent = memberships[membership];
    }
  }

  #addChip(group) {
    const leave = element("button", { class: "icon", type: "button", "aria-label": `Leave the group ${group}`, title: `Leave ${group}`, onclick: () => this.#leave(group) }, "×");
    const chip = withHue(element("li", { class: "chip" }, groupTag(group), element("span", { class: "membership-state" }), leave), hueOf.group(group));
    this.#shown.set(group, chip);
    this.#chips.append(chip);
    this.#composer.suggest(group);
  }

  #add(entry) {
    appendTo(this.#feed, entry, limit);
  }

  #now() {
    return element("time", {}, timeOf(new Date()));
  }

  /** Lights the card up for a moment, which the style sheet does. */
  #flash() {
    this.element.classList.remove("flash");
    requestAnimationFrame(() => this.element.classList.add("flash"));
  }
}
