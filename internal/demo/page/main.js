import { Announcer } from "./announcer.js";
import { Card } from "./card.js";
import { Connection } from "./connection.js";
import { element } from "./dom.js";
import { hueOf, withHue } from "./marks.js";
import { read } from "./message.js";
import { Panel } from "./panel.js";
import { Trace } from "./trace.js";

/** More would only slow the browser down. */
const maxConnections = 24;

const names = ["ada", "ben", "cleo", "dan", "eve"];

const narrow = matchMedia("(max-width: 40rem)");
const form = document.getElementById("opening");
const panels = new Map(); // user -> Panel
const cards = new Map(); // Connection -> Card
const trace = new Trace(document.getElementById("trace"));
const announcer = new Announcer(document.getElementById("announcer"));
const known = { users: new Set(), groups: new Set() }; // names to suggest

function open(user, group) {
  const problem = form.querySelector(".problem");
  problem.textContent = "";
  if (user === "") {
    problem.textContent = "Under which name? Any will do.";
    form.elements.user.focus();
    return;
  }
  if (cards.size === maxConnections) {
    problem.textContent = `This tab has ${maxConnections} connections: close one first, or open another tab.`;
    return;
  }
  if (narrow.matches) form.parentElement.querySelector(".legend").open = false;
  const connection = new Connection(user);
  const card = new Card(connection, { membersOf, onAim: aim, onClose: () => close(connection) });
  cards.set(connection, card);
  panelOf(user).add(card);
  listen(connection, card);
  if (group !== "") connection.join(group);
  connection.open();
  card.focus();
  card.element.scrollIntoView({ block: "nearest" });
}

function listen(connection, card) {
  connection.addEventListener("change", refresh);
  connection.addEventListener("invocation", ({ detail }) => trace.invoked(connection, detail));
  connection.addEventListener("message", ({ detail }) => {
    const message = read(detail.method, detail.text);
    know("users", message.sender);
    know("groups", message.group);
    if (isFromElsewhere(message)) met();
    card.received(message);
    trace.received(connection, detail, message);
    announcer.received(connection, detail, message);
  });
  connection.addEventListener("lost", () => card.lost());
  connection.addEventListener("returned", ({ detail }) => card.returned(detail));
  connection.addEventListener("failed", ({ detail }) => card.failed(detail.problem));
}

function close(connection) {
  const panel = panels.get(connection.user);
  connection.close();
  panel.remove(cards.get(connection));
  cards.delete(connection);
  if (panel.empty) {
    panel.element.remove();
    panels.delete(connection.user);
  }
  refresh();
  const [next] = cards.values();
  if (next) next.focus();
  else form.elements.user.focus();
}

function panelOf(user) {
  if (!panels.has(user)) {
    const panel = new Panel(user, { onAnother: () => open(user, form.elements.group.value.trim()) });
    panels.set(user, panel);
    document.getElementById("panels").append(panel.element);
  }
  return panels.get(user);
}

/** Whether a message tells of somebody outside of this tab. */
function isFromElsewhere({ sender, connection: id }) {
  if (sender) return !panels.has(sender);
  return Boolean(id) && ![...cards.keys()].some((connection) => connection.id === id);
}

/** Stops to propose a second tab: there is one. */
function met() {
  const [card] = cards.values();
  if (document.getElementById("next").contains(document.activeElement)) card.focus();
  document.body.toggleAttribute("data-met", true);
}

/** The connections of this tab that a message to the group or user is for. */
function membersOf(selector, name) {
  return [...cards.keys()].filter(({ user, groups, state }) =>
    state === "connected" && (selector === "group" ? groups.get(name) === "joined" : user === name));
}

/** Marks the cards that what is being written is for. */
function aim(selector, name) {
  const members = name === "" ? [] : membersOf(selector, name);
  for (const [connection, card] of cards) card.aimed = members.includes(connection);
}

/** Shows what depends on several connections. */
function refresh() {
  for (const [connection, card] of cards) {
    card.refresh();
    know("users", connection.user);
    for (const group of connection.groups.keys()) know("groups", group);
  }
  document.body.toggleAttribute("data-open", cards.size > 0);
  document.title = cards.size > 0 ? `${[...panels.keys()].join(", ")} · Heliograph` : "Heliograph: try it out";
  form.querySelector("button").textContent = cards.size > 0 ? "Open another connection" : "Open a connection";
  offerSecondTab();
}

/** Offers another tab, as somebody who is not in this one. */
function offerSecondTab() {
  const other = names.find((name) => !panels.has(name) && name !== form.elements.user.value) ?? names[0];
  for (const link of document.querySelectorAll(".second-tab")) {
    link.hash = new URLSearchParams({ as: other });
    link.querySelector(".as").textContent = `as ${other}`;
    withHue(link, hueOf.user(other));
  }
}

function know(kind, name) {
  if (!name || known[kind].has(name) || known[kind].size >= 100) return;
  known[kind].add(name);
  document.getElementById(kind).append(element("option", { value: name }));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  open(form.elements.user.value.trim(), form.elements.group.value.trim());
});
form.elements.user.addEventListener("input", offerSecondTab);
form.elements.user.value = new URLSearchParams(location.hash.slice(1)).get("as") ?? form.elements.user.value;
form.elements.user.select();
for (const name of names) know("users", name);
know("groups", "lobby");
refresh();
