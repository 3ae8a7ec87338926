// Two people in two tabs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { until } from "../interop/lib/wait.mjs";
import { openWindow, startBrowser } from "./lib/browser.mjs";
import { startServer } from "./lib/server.mjs";

const server = await startServer();
const browser = await startBrowser();

test("the first minute", async (t) => {
  const window = await openWindow(t, browser);
  const one = await window.tab(server.url);
  assert.equal(await one.name.inputValue(), "ada");
  await one.tab.keyboard.press("Enter");
  const ada = await one.lastCard("ada");
  await ada.isIn(["lobby"]);

  const two = await window.tabFrom(() => one.tab.getByRole("link", { name: "open a second tab as ben" }).click());
  assert.equal(await two.name.inputValue(), "ben");
  await two.tab.keyboard.press("Enter");
  const ben = await two.lastCard("ben");
  await ben.isIn(["lobby"]);
  await ada.notes(/joined #lobby/);
  await until("the second tab is not proposed any more", async () => await one.tab.locator("#next").isVisible() ? "it is" : undefined);

  await one.tab.keyboard.type("hello");
  await one.tab.keyboard.press("Enter");
  await ada.got(["by group lobby from ada: hello"]);
  await ben.got(["by group lobby from ada: hello"]);
  await ben.sendToUser("ada", "psst");
  await ben.notes(/Sent to user Aadapsst/);
  await ada.got(["by group lobby from ada: hello", "by user ada from ben: psst"]);
  await ben.got(["by group lobby from ada: hello"]);
  assert.equal(await one.tab.title(), "ada · Heliograph");
});

test("a user is all connections, a group those that joined", async (t) => {
  const window = await openWindow(t, browser);
  const [one, two] = [await window.tab(server.url), await window.tab(server.url)];
  const desk = await one.connect("ada", "kitchen");
  const phone = await one.connect("ada");
  const other = await one.connect("cleo", "kitchen");
  const elsewhere = await two.connect("ada", "roof garden");
  const ben = await two.connect("ben");

  await ben.sendToUser("ada", "to all of you");
  await ben.notes(/Sent to user/);
  await ben.sendToGroup("kitchen", "to the kitchen");
  await desk.got(["by user ada from ben: to all of you", "by group kitchen from ben: to the kitchen"]);
  await phone.got(["by user ada from ben: to all of you"]);
  await elsewhere.got(["by user ada from ben: to all of you"]);
  await other.got(["by group kitchen from ben: to the kitchen"]);
  await ben.got([]);

  // The trace names the connections that one message came to.
  const [first, second, third] = await Promise.all([desk, phone, other].map((card) => card.id()));
  assert.equal(new Set([first, second, third]).size, 3);
  const received = one.trace.filter({ hasText: "ben: to" });
  const [group, user] = await received.allTextContents();
  assert.match(group, /Send\("\[kitchen\] ben: to the kitchen"\)by group #kitchen to /);
  for (const id of [first, third]) assert(group.includes(id), `${group} has no ${id}`);
  assert(!group.includes(second), `${group} has ${second}`);
  for (const id of [first, second]) assert(user.includes(id), `${user} has no ${id}`);
  assert.equal(await received.count(), 2);
  assert.match(await two.trace.filter({ hasText: "SendToGroup" }).textContent(), /invoked✓$/);

  // A screen reader says each of them once.
  assert.deepEqual(await one.announcer.locator("p", { hasText: "ben" }).allTextContents(),
    ["ben to user ada: to all of you", "ben to group kitchen: to the kitchen"]);
});

test("whom a message is for is shown before it is sent", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  const desk = await page.connect("ada", "attic");
  const phone = await page.connect("ada");
  const ben = await page.connect("ben", "attic");
  const aimed = () => Promise.all([desk, phone, ben].map((card) => card.aimed()));
  await ben.write("group", "attic", "x");
  assert.deepEqual(await aimed(), [true, false, true]);
  const reach = await ben.reach();
  assert(reach.includes(await desk.id()) && reach.includes(await ben.id()) && !reach.includes(await phone.id()), reach);
  await ben.write("user", "ada", "x");
  assert.deepEqual(await aimed(), [true, true, false]);
  await ben.write("user", "nobody", "x");
  assert.deepEqual(await aimed(), [false, false, false]);
  assert.match(await ben.reach(), /Nobody in this tab/);
  await page.name.focus();
  assert.deepEqual(await aimed(), [false, false, false]);
});

test("who leaves a group gets no more of it", async (t) => {
  const window = await openWindow(t, browser);
  const [one, two] = [await window.tab(server.url), await window.tab(server.url)];
  const ada = await one.connect("ada", "cellar");
  const ben = await two.connect("ben", "cellar");
  await ben.join("library");
  await ben.isIn(["cellar", "library"]);
  await ben.leave("cellar");
  await ben.isIn(["library"]);
  await ada.notes(/left #cellar/);
  await ada.sendToGroup("cellar", "without ben");
  await ada.got(["by group cellar from ada: without ben"]);
  await ada.sendToGroup("library", "with ben"); // after the other, by the same connection
  await ben.got(["by group library from ada: with ben"]);
});

test("a closed connection is gone, the user is not", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  const sockets = [];
  page.tab.on("websocket", (socket) => sockets.push(socket));
  const first = await page.connect("ada", "lobby");
  const second = await page.connect("ada");
  await first.close();
  assert.equal(await page.cards(), 1);
  await until("its WebSocket alone is closed", () => {
    const closed = sockets.map((socket) => socket.isClosed());
    return closed.length === 2 && closed[0] && !closed[1] ? undefined : closed;
  });
  await second.sendToUser("ada", "still here");
  await second.got(["by user ada from ada: still here"]);
  await second.close();
  assert.equal(await page.cards(), 0);
  assert.equal(await page.name.evaluate((field) => field === document.activeElement), true);
});

test("the button of a user opens another connection of that user", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  await page.connect("ada", "lobby");
  await page.connect("ben", "lobby");
  await page.panel("ada").getByRole("button", { name: "Open another connection of ada" }).click();
  await until("ada has two", async () => await page.panel("ada").getByRole("article").count() === 2 ? undefined : "not yet");
  await (await page.lastCard("ada")).isIn(["lobby"]);
});

test("names and texts are only ever text", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  const markup = '<img src="x" onerror="complain(`it ran`)"><b>bold</b>';
  const user = '"]: <b>ada</b>'; // also what the text of a message has as signs
  const card = await page.connect(user, markup);
  await card.sendToGroup(markup, markup);
  await card.got([`by group ${markup} from ${user}: ${markup}`]);
  await card.sendToUser(user, " two  spaces: and a colon");
  await card.got([`by group ${markup} from ${user}: ${markup}`, `by user ${user} from ${user}:  two  spaces: and a colon`]);
  assert.equal(await page.tab.locator("main :is(b b, img, bdi *, .text *)").count(), 0);
});

test("messages of other clients are shown as they are", async (t) => {
  const window = await openWindow(t, browser);
  const page = await window.tab(server.url);
  const card = await page.connect("ada", "lobby");
  await page.tab.evaluate(async () => {
    const other = new globalThis.signalR.HubConnectionBuilder().withUrl("chat", { accessTokenFactory: async () => {
      const answer = await fetch("demo/token", { method: "POST", body: '{"user":"robot"}' });
      return (await answer.json()).token;
    } }).build();
    await other.start();
    await other.invoke("SendToGroup", "lobby", 'no name, "and [quotes]');
    await other.invoke("SendPrivateMessage", "ada", '"bad \\q quotes": hi');
    await other.stop();
  });
  await card.got(['by group some group from somebody: no name, "and [quotes]', 'by user ada from "bad \\q quotes": hi']);
});

test("what cannot be done is said in words", async (t) => {
  const window = await openWindow(t, browser, { expected: /status of 400/ });
  const page = await window.tab(server.url);
  await page.name.fill("  ");
  await page.opening.getByRole("button").click();
  assert.equal(await page.problem.textContent(), "Under which name? Any will do.");
  assert.equal(await page.cards(), 0);

  const card = await page.connect("ada", "lobby");
  assert.equal(await page.problem.textContent(), "");
  await card.sendToGroup("lobby", " ");
  await card.complains("There is nothing to send yet: write a message.");
  await card.sendToUser("", "hello");
  await card.complains("Which user shall get it?");
  await card.sendToGroup("lobby", "hello");
  await card.got(["by group lobby from ada: hello"]);
  await card.complains("");
  await card.join("lobby");
  await card.complains("This connection is already in the group lobby.");
  await card.join("");
  await card.complains("Which group shall it join?");

  await page.name.fill("a\u0001b");
  await page.opening.getByRole("button").click();
  const refused = await page.lastCard("a\u0001b");
  await refused.is("Disconnected");
  await refused.complains("Could not connect. The node refused to sign in a\u0001b: the name has control characters.");
  await refused.sendToGroup("lobby", "hello");
  await refused.complains("Could not connect. The node refused to sign in a\u0001b: the name has control characters. Not connected. Choose “Connect again” first.");
});

test("violations of the content security policy would be noticed", async (t) => {
  const window = await openWindow(t, browser, { expected: /style-src|script-src|Content Security Policy/ });
  const page = await window.tab(server.url);
  await page.tab.evaluate(() => {
    document.body.append(Object.assign(document.createElement("style"), { textContent: "body { display: none }" }));
    document.body.append(Object.assign(document.createElement("script"), { textContent: "complain('it ran')" }));
  });
  await until("both are noticed", () => {
    const seen = window.complaints.join("\n");
    return /style-src\S* forbids inline/.test(seen) && /script-src\S* forbids inline/.test(seen) ? undefined : seen;
  });
  assert(!window.complaints.includes("it ran"));
});
