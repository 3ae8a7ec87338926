// How a text says who said it, and to which group. A client is told neither: it only
// sees which of its methods was called, and with what. So the sender writes it down.

/** The text of a message to a group. */
export const toGroup = (group, sender, text) => `[${written(group)}] ${written(sender)}: ${text}`;

/** The text of a message to a user. */
export const toUser = (sender, text) => `${written(sender)}: ${text}`;

const name = String.raw`("(?:[^"\\]|\\.)*"|[^"\[\]:]+)`;
const groupMessage = new RegExp(`^\\[${name}\\] ${name}: (.*)$`, "s");
const userMessage = new RegExp(`^${name}: (.*)$`, "s");
const groupNotice = /^([A-Za-z0-9_-]{22}) has (joined|left) the group (.*)\.$/s;

/**
 * Reads what came by a client method of the chat hub: {selector: "group" or "user",
 * group, sender, text}, where group and sender are null if the text does not say them;
 * or, of a connection that joined or left, {selector, group, connection, change}.
 */
export function read(method, text) {
  if (method === "ReceiveMessage") {
    const [, sender = null, said = text] = userMessage.exec(text) ?? [];
    return { selector: "user", group: null, sender: named(sender), text: said };
  }
  const notice = groupNotice.exec(text);
  if (notice) {
    const [, connection, change, group] = notice;
    return { selector: "group", group, connection, change };
  }
  const [, group = null, sender = null, said = text] = groupMessage.exec(text) ?? [];
  return { selector: "group", group: named(group), sender: named(sender), text: said };
}

/** A name as it is, or in quotes if it could be taken for something else. */
function written(name) {
  return /["[\]:]|^\s|\s$/.test(name) ? JSON.stringify(name) : name;
}

function named(written) {
  if (!written?.startsWith('"')) return written;
  try {
    return JSON.parse(written);
  } catch {
    return written; // somebody else's quotes
  }
}
