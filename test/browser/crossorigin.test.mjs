// Pages of another origin, whose browser talks to two nodes behind a balancer that
// switches node at every request.

import assert from "node:assert/strict";
import { test } from "node:test";

import { userToken } from "../interop/lib/token.mjs";
import { until } from "../interop/lib/wait.mjs";
import { openWindow, startBrowser } from "./lib/browser.mjs";
import { startNodes, startPage } from "./lib/nodes.mjs";

const [page, stranger] = [await startPage(), await startPage()];
const balancer = await startNodes(page);
const browser = await startBrowser();

/** What can be combined; event streams carry text alone. */
const combinations = [
  ["WebSockets", "json"],
  ["WebSockets", "messagepack"],
  ["ServerSentEvents", "json"],
  ["LongPolling", "json"],
  ["LongPolling", "messagepack"],
];

const count = 20;
const numbers = Array.from({ length: count }, (_, i) => i);

for (const [transport, protocol] of combinations) {
  test(`${transport}, ${protocol}`, async (t) => {
    // The client says that it closes by a request of its own, while it ends the stream, or
    // before it deletes the connection: either may come when that has ended.
    const window = await openWindow(t, browser, transport === "WebSockets" ? {} : { expected: /status of 404/ });
    const [{ tab: ada }, { tab: ben }] = [await window.tab(page), await window.tab(page)];
    const group = `${transport} ${protocol}`;
    const before = new Set(balancer.requests.keys());
    for (const [tab, user] of [[ada, "ada"], [ben, "ben"]]) {
      await tab.evaluate(([options, group]) => open("client", options).then(() => client.connection.invoke("AddToGroup", group)),
        [{ url: balancer.url, token: userToken(user), transport, protocol }, group]);
    }
    const received = (tab) => tab.evaluate(() => client.received.filter((text) => !/has joined/.test(text)));

    await ada.evaluate(async ([group, numbers]) => {
      for (const n of numbers) {
        await client.connection.invoke("SendToGroup", group, `to the group ${n} é😀`);
        await client.connection.invoke("SendPrivateMessage", "ben", `to ben ${n} ${"x".repeat(n * 500)}`);
      }
    }, [group, numbers]);
    const hers = numbers.map((n) => `to the group ${n} é😀`);
    const his = numbers.flatMap((n) => [hers[n], `to ben ${n} ${"x".repeat(n * 500)}`]);
    await until("all has come", async () => {
      const missing = [hers.length - (await received(ada)).length, his.length - (await received(ben)).length];
      return missing.some((n) => n > 0) ? `${missing} are missing` : undefined;
    });
    assert.deepEqual(await received(ada), hers);
    // What goes by different channels of the cluster may come in any order.
    assert.deepEqual((await received(ben)).toSorted(), his.toSorted());

    await Promise.all([ada, ben].map((tab) => tab.evaluate(() => client.connection.stop())));
    if (transport === "WebSockets") return;
    const own = [...balancer.requests].filter(([id]) => !before.has(id));
    assert.equal(own.length, 2);
    for (const [, nodes] of own) assert.equal(new Set(nodes).size, 2, "the balancer kept a client at a node");
  });
}

for (const [transport, skipNegotiation] of [["WebSockets", true], ["WebSockets", false], ["ServerSentEvents", false], ["LongPolling", false]]) {
  test(`a page that is not allowed: ${transport}${skipNegotiation ? " without negotiation" : ""}`, async (t) => {
    const window = await openWindow(t, browser, { expected: /CORS policy|net::ERR_FAILED|Failed to (complete negotiation|start the)|WebSocket (connection to|failed to connect)|Failed to fetch|Unexpected response code: 403|could not be found on the server/ });
    const { tab } = await window.tab(stranger);
    const outcome = await tab.evaluate((options) => open("client", options).then(() => "connected", String),
      { url: balancer.url, token: userToken("ada"), transport, protocol: "json", skipNegotiation });
    assert.match(outcome, /Failed to complete negotiation|WebSocket failed to connect/);
    assert(window.complaints.some((text) => (skipNegotiation ? /403/ : /blocked by CORS policy/).test(text)), window.complaints.join("\n"));
  });
}
