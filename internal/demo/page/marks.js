// What users, groups and connections look like: the same in every tab, since colours and
// patterns come from the names alone. Users are round, groups are square, connections
// have a pattern; colour never says anything alone.

import { element } from "./dom.js";

/** The mark of a user with the name beside it. */
export function userTag(user) {
  return withHue(element("span", { class: "tag user-tag" }, avatar(user), element("bdi", {}, user)), hueOf.user(user));
}

/** The round mark of a user. */
export function avatar(user) {
  const initial = [...user.trim()][0] ?? "?";
  return withHue(element("span", { class: "avatar", "aria-hidden": "true" }, initial.toUpperCase()), hueOf.user(user));
}

/** A group's name behind its sign. Without a name: some group. */
export function groupTag(group) {
  const sign = element("span", { class: "sign", "aria-hidden": "true" }, "#");
  const name = group === null ? element("i", {}, "some group") : element("bdi", {}, group);
  return withHue(element("span", { class: "tag group-tag" }, sign, name), hueOf.group(group));
}

/** The mark of a connection with the beginning of its id. */
export function connectionTag(id, user = null) {
  const tag = element("span", { class: "tag connection-tag", title: `connection ${id}` }, pattern(id), element("code", {}, shortID(id)));
  return user === null ? tag : element("span", { class: "pair" }, userTag(user), tag);
}

/** Enough of a connection id to tell connections apart. */
export const shortID = (id) => id.slice(0, 6);

/** The hues of names, in degrees. */
export const hueOf = {
  user: (user) => hash(`user ${user}`) % 360,
  group: (group) => hash(`group ${group ?? ""}`) % 360,
  connection: (id) => hash(id) % 360,
};

/** Sets the hue that the style sheets make colours of. */
export function withHue(target, hue) {
  target.style.setProperty("--hue", hue);
  return target;
}

/** A pattern of five by five squares, mirrored. */
function pattern(id) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("viewBox", "0 0 5 5");
  svg.setAttribute("class", "pattern");
  svg.setAttribute("aria-hidden", "true");
  const bits = hash(id);
  for (let i = 0; i < 15; i++) {
    if (!(bits >>> i & 1)) continue;
    for (const x of new Set([i % 3, 4 - i % 3])) {
      const square = document.createElementNS(namespace, "rect");
      for (const [name, value] of Object.entries({ x, y: Math.floor(i / 3), width: 1, height: 1 })) square.setAttribute(name, value);
      svg.append(square);
    }
  }
  return withHue(svg, hueOf.connection(id));
}

/**
 * FNV-1a with a final mix, so that names alike get colours apart. It starts from a number
 * by which the names that the page suggests do, too.
 */
function hash(text) {
  let h = 0x10c904;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  h = Math.imul(h ^ h >>> 16, 0x45d9f3b);
  return (h ^ h >>> 13) >>> 0;
}
