// Every transport with every hub protocol that it can carry, on a node alone, and on two
// behind a balancer that sends each request of a connection to another node.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Subject } from "@microsoft/signalr";

import { connect } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { RoundRobin } from "./lib/roundrobin.mjs";
import { deferred, settled } from "./lib/wait.mjs";

/** What can be combined; event streams carry text alone. */
const combinations = [
  ["WebSockets", "json"],
  ["WebSockets", "messagepack"],
  ["ServerSentEvents", "json"],
  ["LongPolling", "json"],
  ["LongPolling", "messagepack"],
];

const single = await startCluster({ nodes: 1, env: { REDIS: "" } });
const pair = await startCluster({ nodes: 2 });
const balancer = await RoundRobin.start(pair.nodes);
after(() => balancer.stop());

const places = [
  { place: "one node", cluster: single, entrance: single.nodes[0] },
  { place: "two nodes", cluster: pair, entrance: balancer },
];

const below = (count) => Array.from({ length: count }, (_, i) => i);
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** Values of all kinds, and one that fills several packets. */
const values = [42, "é\u2028😀", true, null, [1, [2, "three"]], { name: "ada", "": {} }, "x".repeat(30_000)];

/** A subject that sends the items, and then its end, once it is subscribed to. */
function upload(items) {
  const subject = new Subject();
  queueMicrotask(() => {
    for (const item of items) subject.next(item);
    subject.complete();
  });
  return subject;
}

const cases = {
  async "invoke"({ client }) {
    for (const value of values) assert.deepEqual(await client.invoke("Echo", value), value);
    const sums = await Promise.all(below(100).map((n) => client.invoke("Add", n, 1)));
    assert.deepEqual(sums, below(100).map((n) => n + 1));
    await assert.rejects(client.invoke("ThrowHubError", "told"), /HubException: told$/);
  },

  async "stream out"({ client }) {
    for (const count of [0, 1, 1000]) assert.deepEqual(await client.stream("Counter", count, 0), { items: below(count) });
    const streams = below(5).map((count) => client.stream("Counter", count, 1));
    assert.deepEqual(await Promise.all(streams), below(5).map((count) => ({ items: below(count) })));
    const cancelled = deferred();
    const subscription = client.subscribe("Infinite", [0], { next: (n) => n === 10 && cancelled.resolve() });
    await settled("the stream flows", cancelled.promise);
    subscription.dispose();
    assert.equal(await client.invoke("Echo", "goes on"), "goes on");
  },

  async "upload"({ client }) {
    assert.equal(await client.invoke("Sum", upload(below(300))), sum(below(300)));
    assert.deepEqual(await client.stream("Doubled", upload(below(300))), { items: below(300).map((n) => 2 * n) });
  },

  async "client result"({ client, others }) {
    client.handle("Answer", async (question) => `${question}? 42`);
    assert.equal(await client.invoke("AskClient", client.id, "own"), "own? 42");
    for (const other of others) {
      const answers = await Promise.all(below(20).map((i) => other.invoke("AskClient", client.id, `question ${i}`)));
      assert.deepEqual(answers, below(20).map((i) => `question ${i}? 42`));
    }
  },

  async "group send"({ cluster, client, others }) {
    await receivesInOrder(cluster, client, others, async (name) => {
      await client.invoke("JoinGroup", name);
      return (other, text) => other.invoke("SendGroup", name, text);
    });
  },

  async "user send"({ cluster, client, others, user }) {
    await receivesInOrder(cluster, client, others, () => (other, text) => other.invoke("SendUser", user, text));
  },

  async "close from the server"({ cluster, client, others: [watcher], start }) {
    const { id } = client;
    await watcher.invoke("Watch", id);
    await client.send("Abort");
    await client.closed;
    await ended(watcher, id);

    // The close may come with the handshake's answer, and then the start fails; or the
    // ping that a client sends behind its handshake comes when all is over.
    const error = await start("reject-me").then((refused) => refused.closed, (error) => error);
    assert.match(error.message, /Connection closed with an error\.$|^No Connection with that ID: Status code '404'$/);
    await cluster.barrier(watcher);
    assert.deepEqual(watcher.take(), [["Disconnected", id]]);
  },

  async "close from the client"({ client, others: [watcher] }) {
    const { id } = client;
    await watcher.invoke("Watch", id);
    await client.stop();
    await ended(watcher, id);
  },
};

/** Waits until the hub tells that the connection has ended. */
const ended = (watcher, id) => watcher.waitFor("the hub tells of the end", (log) => log.some(([method, of]) => method === "Disconnected" && of === id));

let names = 0;

/** Sends from everywhere at once: each sender's arrive in order, each once. */
async function receivesInOrder(cluster, client, others, prepare) {
  const send = await prepare(`group ${names++}`);
  await Promise.all(others.map(async (other, of) => {
    for (const i of below(30)) await send(other, `${of} ${i}`);
  }));
  await cluster.barrier(client);
  const received = client.take().map(([, text]) => text);
  assert.equal(received.length, 30 * others.length);
  for (const of of others.keys()) {
    assert.deepEqual(received.filter((text) => text.startsWith(`${of} `)), below(30).map((i) => `${of} ${i}`));
  }
}

for (const { place, cluster, entrance } of places) {
  for (const [transport, protocol] of combinations) {
    for (const [name, run] of Object.entries(cases)) {
      test(`${transport}, ${protocol}, ${place}: ${name}`, async (t) => {
        const start = (user) => connect(t, entrance, { transport, protocol, user });
        const user = `user ${names++}`;
        const client = await start(user);
        const others = await Promise.all(cluster.nodes.map((node) => connect(t, node)));
        // One request alone, so that the next test begins at another node than this.
        others.push(await connect(t, entrance, { skipNegotiation: true }));
        await run({ cluster, client, others, user, start });
      });
    }
  }
}

// Else these tests would show nothing.
test("the balancer has sent each connection's requests to another node each time", () => {
  const turns = [...balancer.requests.values()];
  assert(turns.some((nodes) => nodes.length > 100), "long polling takes many requests");
  for (const nodes of turns) {
    for (const i of nodes.keys()) assert(i === 0 || nodes[i] !== nodes[i - 1]);
  }
  for (const node of pair.nodes) assert(turns.some(([first]) => first === node), `connections have begun at ${node.name}`);
});
