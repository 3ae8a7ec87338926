// A node that goes away and comes back: with another secret, since none is configured,
// so the tokens of before are worth nothing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { openWindow, startBrowser } from "./lib/browser.mjs";
import { startServer } from "./lib/server.mjs";

const server = await startServer();
const browser = await startBrowser();

test("connections come back and join their groups again", async (t) => {
  const window = await openWindow(t, browser, { expected: /net::ERR_|status of 503/ }); // gone, or leaving
  const [one, two] = [await window.tab(server.url), await window.tab(server.url)];
  const ada = await one.connect("ada", "lobby");
  await ada.join("kitchen");
  await ada.isIn(["lobby", "kitchen"]);
  const ben = await two.connect("ben", "lobby");
  await ada.notes(/joined #lobby/);
  const before = await ada.id();

  await server.stop();
  await ada.is("Reconnecting");
  await ada.notes(/The connection is lost\. Its membership of #lobby#kitchen ended with it\./);
  await ada.isIn(["lobby waiting", "kitchen waiting"]);
  await ada.leave("kitchen");
  await ada.isIn(["lobby waiting"]);
  await ada.sendToGroup("lobby", "anybody?");
  await ada.complains(/^The connection to the node is lost\. (Trying again\.|Next try in \d s\.) Not connected: the connection is lost\. Do it again when it is back\.$/);

  const late = await unconnected(two, "cleo", "lobby");
  await late.complains("Could not connect. The node does not answer. Is it running?");

  await server.start();
  await Promise.all([ada, ben].map((card) => card.is("Connected")));
  await Promise.all([ada, ben].map((card) => card.isIn(["lobby"])));
  await ada.complains("");
  const now = await ada.id();
  assert.notEqual(now, before);
  await ada.notes(new RegExp(`Back, as a new connection: ${now} instead of ${before}\\. .*joins again: #lobby`));
  await late.connectAgain();
  await late.isIn(["lobby"]);

  await ben.sendToGroup("kitchen", "not for ada any more");
  await ben.notes(/Sent to group #kitchen/);
  await ben.sendToGroup("lobby", "welcome back");
  for (const card of [ada, ben, late]) await card.got(["by group lobby from ben: welcome back"]);
});

async function unconnected(page, user, group) {
  await page.name.fill(user);
  await page.group.fill(group);
  await page.opening.getByRole("button").click();
  const card = await page.lastCard(user);
  await card.is("Disconnected");
  return card;
}
