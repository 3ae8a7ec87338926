// The hub for load generators.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

for (const protocol of Object.keys(protocols)) {
  test(protocol, async (t) => {
    const on = (node, user) => connect(t, node, { path: `/bench?user=${protocol}-${user}`, protocol, skipNegotiation: true });
    const [ada, ben] = [await on(one, "ada"), await on(two, "ben")];
    await ben.invoke("JoinGroup", `${protocol} room`);
    await ada.invoke("SendToGroup", `${protocol} room`, "to the group");
    await ada.invoke("SendToUser", `${protocol}-ben`, "to the user");
    await ada.invoke("SendToUser", `${protocol}-ada`, "to myself");
    await ben.waitFor("both messages arrive", (log) => log.length >= 2);
    await ada.waitFor("the message arrives", (log) => log.length >= 1);
    assert.deepEqual(ben.take(), [["Message", "to the group"], ["Message", "to the user"]]);
    assert.deepEqual(ada.take(), [["Message", "to myself"]]);
    assert.equal(await ada.invoke("Echo", "text"), "text");
  });
}
