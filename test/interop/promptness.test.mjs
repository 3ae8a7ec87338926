// What has returned is in force on every node. Redis hears of subscriptions late here
// (see DelayingProxy), so that a node that did not wait for them would lose messages.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { rounds } from "./lib/wait.mjs";

const LANES = 4; // that try it side by side

const cluster = await startCluster({ delaySubscriptions: true });
const [one, two] = cluster.nodes;

/** Runs the rounds in lanes, each of which does one after the other. */
async function inLanes(count, lane) {
  await Promise.all(Array.from({ length: LANES }, (_, i) => lane(i, Math.ceil(count / LANES))));
}

for (const protocol of Object.keys(protocols)) {
  const count = rounds(1_000);

  test(`${protocol}: ${count} times a join on one node, followed at once by a send from the other`, async (t) => {
    const heldBack = cluster.proxy.delayed;
    await inLanes(count, async (lane, times) => {
      const member = await connect(t, one, { protocol });
      const sender = await connect(t, two, { protocol });
      const expected = [];
      for (let i = 0; i < times; i++) {
        const group = `${protocol} ${lane} ${i}`;
        expected.push(["Message", group]);
        await member.invoke("JoinGroup", group);
        await sender.invoke("SendGroup", group, group);
      }
      await cluster.barrier(member);
      assert.deepEqual(member.take(), expected);
    });
    assert(cluster.proxy.delayed - heldBack >= count / LANES, "no subscription was held back");
  });

  test(`${protocol}: ${count} times a connect to one node, followed at once by a send to that user from the other`, async (t) => {
    const heldBack = cluster.proxy.delayed;
    await inLanes(count, async (lane, times) => {
      const sender = await connect(t, two, { protocol });
      for (let i = 0; i < times; i++) {
        const user = `${protocol} ${lane} ${i}`;
        const client = await connect(undefined, one, { protocol, user, skipNegotiation: i % 2 === 1 });
        await sender.invoke("SendUser", user, user);
        const expected = [["Message", user]];
        if (client.id) {
          await sender.invoke("SendClient", client.id, "by id");
          expected.push(["Message", "by id"]);
        }
        await client.waitFor("what was sent arrives", (log) => log.length >= expected.length);
        assert.deepEqual(client.take(), expected);
        await client.stop();
      }
    });
    assert(cluster.proxy.delayed - heldBack >= count / LANES, "no subscription was held back");
  });
}
