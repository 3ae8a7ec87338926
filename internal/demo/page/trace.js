import { element, timeOf } from "./dom.js";
import { connectionTag, groupTag, userTag } from "./marks.js";

const limit = 200;

/** What went over the wire, the newest first, so that it is in view. */
export class Trace {
  #list;
  #last = null; // the row that was added last, if it is of something received

  constructor(details) {
    this.#list = details.querySelector("ol");
    // Beside the connections where there is room, folded up below them where there is not.
    const roomy = matchMedia("(min-width: 70rem)");
    details.open = roomy.matches;
    roomy.addEventListener("change", () => { details.open = roomy.matches; });
  }

  async invoked(connection, { method, args, outcome }) {
    const result = element("span", { class: "result", role: "img", "aria-label": "waiting" }, "…");
    this.#add("out", method, args, [element("span", { class: "route" }, connectionTag(connection.id, connection.user), " invoked"), result]);
    this.#last = null;
    try {
      await outcome;
      result.textContent = "✓";
      result.setAttribute("aria-label", "done");
    } catch (problem) {
      result.replaceWith(element("span", { class: "result failed" }, problem.message));
    }
  }

  /** Shows deliveries of one text to several connections as one row, in which each of them is named. */
  received(connection, { method, text }, { selector, group }) {
    const key = `${method} ${text}`;
    if (this.#last?.key !== key || this.#last.ids.has(connection.id)) {
      const receivers = element("span", { class: "receivers" });
      const by = selector === "group" ? groupTag(group) : userTag(connection.user);
      const route = element("span", { class: "route" }, "by ", selector, " ", by, " to ", receivers);
      this.#add("in", method, [text], [route]);
      this.#last = { key, ids: new Set(), receivers };
    }
    this.#last.ids.add(connection.id);
    this.#last.receivers.append(connectionTag(connection.id, selector === "group" ? connection.user : null));
  }

  #add(direction, method, args, about) {
    const call = element("code", { class: "call" }, element("b", {}, method), `(${args.map((a) => JSON.stringify(a)).join(", ")})`);
    const arrow = element("span", { class: "arrow", role: "img", "aria-label": direction === "out" ? "to the node" : "from the node" },
      direction === "out" ? "↑" : "↓");
    this.#list.prepend(element("li", { class: direction },
      element("time", {}, timeOf(new Date(), { exact: true })), arrow, call, element("span", { class: "about" }, about)));
    if (this.#list.childElementCount > limit) this.#list.lastElementChild.remove();
  }
}
