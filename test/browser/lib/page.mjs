// The try-out page as a person sees it: by roles, labels and words.

import { isDeepStrictEqual } from "node:util";

import { until } from "../../interop/lib/wait.mjs";

/** One tab with the page. */
export class Page {
  constructor(tab) {
    this.tab = tab;
    this.opening = tab.locator("#opening");
    this.name = this.opening.getByLabel("Name");
    this.group = this.opening.getByLabel("Join group");
    this.problem = this.opening.locator("[role=alert]");
    this.announcer = tab.locator("#announcer");
    this.trace = tab.locator("#trace li");
  }

  /** Opens a connection, which is the user's only one or last one then, and waits for it. */
  async connect(user, group = "") {
    await this.name.fill(user);
    await this.group.fill(group);
    await this.opening.getByRole("button").click();
    const card = await this.lastCard(user);
    await card.is("Connected");
    if (group !== "") await card.isIn([group]);
    return card;
  }

  panel(user) {
    return this.tab.getByRole("region", { name: `User ${user}`, exact: true });
  }

  /** The user's last card. It stays the same one whatever comes after it. */
  async lastCard(user) {
    const cards = this.panel(user).getByRole("article");
    const count = await cards.count();
    if (count === 0) throw new Error(`${user} has no card`);
    return new Card(await cards.nth(count - 1).elementHandle());
  }

  /** How many cards the tab has. */
  cards() {
    return this.tab.getByRole("article").count();
  }
}

/** One connection on the page. */
export class Card {
  #element;

  constructor(element) {
    this.#element = element;
  }

  /** What this card shows of its connection's id. */
  id() {
    return this.#read((card) => card.querySelector("h3 code").textContent);
  }

  /** Waits until its state is this one. */
  async is(state) {
    await this.#until(`the connection is ${state}`, state, (card) => card.querySelector(".state").textContent);
  }

  /** Waits until these are its groups, joined if nothing else is said: "lobby" or "lobby waiting". */
  async isIn(groups) {
    await this.#until("the groups are right", groups, (card) => [...card.querySelectorAll(".chip")].map((chip) =>
      [chip.querySelector("bdi"), chip.querySelector(".membership-state")].map((e) => e.textContent).join(" ").trim()));
  }

  /** Waits until these messages are all that has come, each as "by group lobby from ada: hello". */
  async got(messages) {
    await this.#until("the messages are right", messages, (card) => [...card.querySelectorAll(".message")].map((message) => {
      const copy = message.cloneNode(true);
      for (const left of copy.querySelectorAll("[aria-hidden], time")) left.remove();
      return `${copy.querySelector(".route").textContent.trim()}: ${copy.querySelector(".text").textContent}`;
    }));
  }

  /** Waits until the card has a notice that matches. */
  async notes(pattern) {
    await until(`a notice matches ${pattern}`, async () => {
      const notices = await this.#read((card) => [...card.querySelectorAll(".notice")].map((notice) => notice.textContent));
      return notices.some((notice) => pattern.test(notice)) ? undefined : notices;
    });
  }

  /** Waits until this, or what matches this, is all that it says is wrong. Empty: nothing. */
  async complains(words) {
    await this.#until("the problem is told", words, (card) =>
      [...card.querySelectorAll(".problem, .trouble p")].map((p) => p.textContent).filter(Boolean).join(" "));
  }

  async join(group) {
    await (await this.#find("[aria-label='Group to join']")).fill(group);
    await (await this.#find(".join button")).click();
  }

  async leave(group) {
    await (await this.#find(`[aria-label='Leave the group ${group}']`)).click();
  }

  async close() {
    await (await this.#find(".close")).click();
  }

  async connectAgain() {
    await (await this.#find(".trouble button")).click();
  }

  async sendToGroup(group, text) {
    await this.write("group", group, text);
    await (await this.#find(".say button")).click();
  }

  async sendToUser(user, text) {
    await this.write("user", user, text);
    await (await this.#find(".say button")).click();
  }

  /** Fills in what to send, and to whom. */
  async write(selector, name, text) {
    await (await this.#find(`.choice [value=${selector}]`)).check();
    await (await this.#find(`[aria-label='Name of the ${selector}']`)).fill(name);
    await (await this.#find("[aria-label=Message]")).fill(text);
  }

  /** Whether what is being written is for this connection, as the page marks it. */
  aimed() {
    return this.#read((card) => card.hasAttribute("data-aimed"));
  }

  /** Whom its form addresses, in words. */
  reach() {
    return this.#read((card) => card.querySelector(".reach").textContent);
  }

  #read(what) {
    return this.#element.evaluate(what);
  }

  async #find(selector) {
    const found = await this.#element.$(selector);
    if (!found) throw new Error(`the card has no ${selector}`);
    return found;
  }

  #until(what, want, read) {
    return until(what, async () => {
      const got = await this.#read(read);
      const right = want instanceof RegExp ? want.test(got) : isDeepStrictEqual(got, want);
      return right ? undefined : `got ${JSON.stringify(got)}, want ${want instanceof RegExp ? want : JSON.stringify(want)}`;
    });
  }
}
