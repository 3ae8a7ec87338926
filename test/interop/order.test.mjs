// What is sent to a group arrives everywhere, once and in order.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { rounds } from "./lib/wait.mjs";

const cluster = await startCluster();

/** Connects a member of the group to each node with each protocol. */
async function connectMembers(t, group) {
  const members = [];
  for (const node of cluster.nodes) {
    for (const protocol of Object.keys(protocols)) {
      const member = await connect(t, node, { protocol });
      await member.invoke("JoinGroup", group);
      members.push(member);
    }
  }
  return members;
}

/** Sends numbered messages as fast as they can be written; returns when all are handed on. */
async function sendMany(sender, group, name, count) {
  for (let i = 0; i < count; i++) await sender.send("SendGroup", group, `${name} ${i}`);
  // The invocations of one connection run one after the other.
  await sender.invoke("Nothing");
}

const sequence = (name, count) => Array.from({ length: count }, (_, i) => ["Message", `${name} ${i}`]);

for (const protocol of Object.keys(protocols)) {
  const count = rounds(10_000);

  test(`${protocol}: ${count} messages from one sender`, async (t) => {
    const group = `${protocol} one sender`;
    const members = await connectMembers(t, group);
    const sender = await connect(t, cluster.nodes[0], { protocol });
    await sendMany(sender, group, "message", count);
    await cluster.barrier(...members);
    for (const member of members) assert.deepEqual(member.take(), sequence("message", count));
  });
}

test("messages of many senders on both nodes, in one order for all members", async (t) => {
  const group = "many senders", count = rounds(2_000);
  const members = await connectMembers(t, group);
  const senders = await Promise.all([...cluster.nodes, ...cluster.nodes, ...cluster.nodes, ...cluster.nodes].map((node) => connect(t, node)));
  await Promise.all(senders.map((sender, i) => sendMany(sender, group, `sender ${i}`, count)));
  await cluster.barrier(...members);

  const [first, ...others] = members.map((member) => member.take());
  for (const i of senders.keys()) {
    assert.deepEqual(first.filter(([, text]) => text.startsWith(`sender ${i} `)), sequence(`sender ${i}`, count));
  }
  assert.equal(first.length, senders.length * count);
  for (const other of others) assert.deepEqual(other, first);
});

test("messages to one group by several selectors keep their order", async (t) => {
  const [one, two] = cluster.nodes;
  const member = await connect(t, two, { user: "mixed" });
  const sender = await connect(t, one);
  await member.invoke("JoinGroup", "mixed");
  const count = rounds(1_000), expected = [];
  for (let i = 0; i < count; i++) {
    for (const call of [["SendGroup", "mixed"], ["SendUser", "mixed"], ["SendClient", member.id], ["SendGroupExcept", "mixed", []], ["SendAll"]]) {
      const text = `${call[0]} ${i}`;
      expected.push(["Message", text]);
      await sender.send(...call, text);
    }
  }
  await sender.invoke("Nothing");
  await cluster.barrier(member);
  assert.deepEqual(member.take(), expected);
});
