// Programs that are no nodes send to clients, whether nodes demand signatures or not.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { connect } from "./lib/client.mjs";
import { CLUSTER_KEY, startCluster } from "./lib/cluster.mjs";
import { Child } from "./lib/process.mjs";

const cluster = await startCluster({ env: { REQUIRE_SIGNED: "1" } });
const [one, two] = cluster.nodes;

const cast = {
  ada1: { node: one, user: "ada", protocol: "json", groups: ["red"] },
  ada2: { node: two, user: "ada", protocol: "messagepack", groups: ["red", "blue"] },
  ben1: { node: one, user: "ben", protocol: "messagepack", groups: ["blue"] },
  ben2: { node: two, user: "ben", protocol: "json", groups: ["red"] },
};
const everybody = Object.keys(cast);
const clients = {};
const ids = {};

before(async () => {
  for (const [name, { node, groups, ...options }] of Object.entries(cast)) {
    clients[name] = await connect(undefined, node, options);
    ids[name] = clients[name].id;
    for (const group of groups) await clients[name].invoke("JoinGroup", group);
  }
});

/** Has the messages published by a program of its own, which must end well. */
async function publish(messages, settings = {}) {
  const program = new Child("publisher", process.env.PUBLISHER, messages.map((m) => JSON.stringify(m)), {
    REDIS: cluster.redis.url, CLUSTER_KEY, GORACE: "atexit_sleep_ms=50", ...settings,
  });
  assert.deepEqual(await program.ended, { code: 0, signal: null }, program.output);
}

const selectors = [
  ["all", () => ({ to: "all" }), everybody],
  ["all except two", () => ({ to: "all", except: [ids.ada2, ids.ben1] }), ["ada1", "ben2"]],
  ["a user", () => ({ to: "users", names: ["ada"] }), ["ada1", "ada2"]],
  ["users, one twice", () => ({ to: "users", names: ["ben", "dan", "ben"] }), ["ben1", "ben2"]],
  ["a group", () => ({ to: "groups", names: ["red"] }), ["ada1", "ada2", "ben2"]],
  ["a group except one", () => ({ to: "groups", names: ["red"], except: [ids.ada1] }), ["ada2", "ben2"]],
  ["groups", () => ({ to: "groups", names: ["red", "blue"] }), ["ada1", "ada2", "ada2", "ben1", "ben2"]],
  ["connections", () => ({ to: "connections", names: [ids.ben1, "unknown", ids.ada1] }), ["ada1", "ben1"]],
];

for (const [title, selector, receivers] of selectors) {
  test(title, async () => {
    await publish([{ ...selector(), method: "Message", arguments: [title] }]);
    await cluster.barrier(...Object.values(clients));
    for (const name of everybody) {
      const expected = receivers.filter((receiver) => receiver === name).map(() => ["Message", title]);
      assert.deepEqual(clients[name].take(), expected, `${name} received`);
    }
  });
}

test("values, in order", async () => {
  const values = [null, true, -1.5, 9007199254740991, "東京 \u001e\0", [1, [2]], { a: { b: null } }];
  const numbers = Array.from({ length: 200 }, (_, i) => i);
  await publish([
    { to: "all", method: "Message", arguments: values },
    ...numbers.map((n) => ({ to: n % 2 ? "all" : "groups", names: ["red"], method: "Item", arguments: [n] })),
  ]);
  await cluster.barrier(...Object.values(clients));
  for (const name of everybody) {
    const [first, ...items] = clients[name].take();
    assert.deepEqual(first, ["Message", ...values]);
    const heard = cast[name].groups.includes("red") ? numbers : numbers.filter((n) => n % 2);
    assert.deepEqual(items, heard.map((n) => ["Item", n]));
  }
});

test("to a hub with a prefix", async (t) => {
  const chat = await connect(t, two, { path: "/chat", user: "ada", protocol: "messagepack" });
  await publish([{ to: "users", names: ["ada"], method: "ReceiveMessage", arguments: ["to chat"] }], { PREFIX: "chat/" });
  await cluster.barrier(...Object.values(clients));
  await chat.waitFor("the message arrives", (log) => log.length > 0);
  assert.deepEqual(chat.take(), [["ReceiveMessage", "to chat"]]);
  for (const name of everybody) assert.deepEqual(clients[name].take(), []);
});

test("what no key of the cluster has signed is for nobody", async () => {
  const message = { to: "all", method: "Message", arguments: ["from a stranger"] };
  await publish([message], { CLUSTER_KEY: "" });
  await publish([message], { CLUSTER_KEY: "a stranger's key, of more than 32 bytes" });
  await cluster.redis.publish("all", '{"target":"Message","arguments":["from a stranger"]}');
  await publish([{ ...message, arguments: ["from a friend"] }]);
  await cluster.barrier(...Object.values(clients));
  for (const name of everybody) assert.deepEqual(clients[name].take(), [["Message", "from a friend"]]);
});
