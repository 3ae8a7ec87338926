// Any program with a Redis client can publish.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

/** Connects a client to each node with each protocol. */
async function connectAll(t, options) {
  const clients = [];
  for (const node of cluster.nodes) {
    for (const protocol of Object.keys(protocols)) clients.push(await connect(t, node, { protocol, ...options }));
  }
  return clients;
}

test("to a user", async (t) => {
  const ada = await connectAll(t, { user: "ada" });
  const others = await connectAll(t, { user: "Ada" });
  const nodes = await cluster.redis.publish("user:ada", '{"target":"ReceiveMessage","arguments":["hi"]}');
  assert.equal(nodes, 2);
  await cluster.barrier(...ada, ...others);
  for (const client of ada) assert.deepEqual(client.take(), [["ReceiveMessage", "hi"]]);
  for (const client of others) assert.deepEqual(client.take(), []);
});

test("to a group, to all and to a connection", async (t) => {
  const members = await connectAll(t);
  const stranger = await connect(t, one);
  for (const member of members) await member.invoke("JoinGroup", "a group");
  await cluster.redis.publish("group:a group", '{"target":"Message","arguments":["to the group"]}');
  await cluster.redis.publish("all", '{"target":"Message","arguments":["to all"]}');
  await cluster.redis.publish(`connection:${stranger.id}`, '{"target":"Message","arguments":["by id"]}');
  await cluster.barrier(...members, stranger);
  for (const member of members) assert.deepEqual(member.take(), [["Message", "to the group"], ["Message", "to all"]]);
  assert.deepEqual(stranger.take(), [["Message", "to all"], ["Message", "by id"]]);
});

test("to a hub with a prefix", async (t) => {
  const chat = await connect(t, two, { path: "/chat", user: "prefixed" });
  const hub = await connect(t, two, { user: "prefixed" });
  await cluster.redis.publish("chat/user:prefixed", '{"target":"ReceiveMessage","arguments":["to chat"]}');
  await cluster.redis.publish("user:prefixed", '{"target":"ReceiveMessage","arguments":["to the hub"]}');
  await cluster.barrier(hub);
  assert.deepEqual(hub.take(), [["ReceiveMessage", "to the hub"]]);
  await chat.waitFor("the message arrives", (log) => log.length > 0);
  assert.deepEqual(chat.take(), [["ReceiveMessage", "to chat"]]);
});

test("values are translated", async (t) => {
  const clients = await connectAll(t, { user: "values" });
  const values = [
    null, true, 0, -1, 1.5, 9007199254740991, -2147483649, 1e300, "", "東京 👩‍👩‍👧 \u001e\0", [], [1, [2]], {}, { a: { B: [null] }, "": 1 },
  ];
  await cluster.redis.publish("user:values", JSON.stringify({ target: "Message", arguments: values }));
  await cluster.redis.publish("user:values", '{\n"arguments" : [ "\\u0041" , { "a" :1.0 } ], "more": [1], "target":"Message" } ');
  await cluster.redis.publish("user:values", '{"target":"Message"}');
  await cluster.redis.publish("user:values", '{"target":"Message","arguments":[]}');
  await cluster.barrier(...clients);
  for (const client of clients) {
    assert.deepEqual(client.take(), [["Message", ...values], ["Message", "A", { a: 1 }], ["Message"], ["Message"]]);
  }
});

test("what is no invocation is ignored", async (t) => {
  const clients = await connectAll(t, { user: "strict" });
  for (const message of [
    "", "hello", "{", "{}", '{"target":""}', '{"target":7,"arguments":[]}', '{"arguments":["no target"]}',
    '{"target":"Message","arguments":{"no":"list"}}', '{"target":"Message","arguments":["cut', '{"target":"Message","arguments":[}',
    '{"type":7,"error":"you are out"}', '["target","Message"]', "null", "\0\x01\x02", "x".repeat(100_000),
  ]) {
    await cluster.redis.publish("user:strict", message);
  }
  await cluster.redis.publish("user:strict", '{"target":"Message","arguments":["good"]}');
  await cluster.barrier(...clients);
  for (const client of clients) {
    assert.deepEqual(client.take(), [["Message", "good"]]);
    assert.equal(await client.invoke("Echo", "goes on"), "goes on");
  }
});
