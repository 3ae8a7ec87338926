// The chat hub, as SignalR's own sample of users and groups has it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

for (const protocol of Object.keys(protocols)) {
  test(protocol, async (t) => {
    const group = `${protocol} lobby`;
    const ada = await connect(t, one, { path: "/chat", protocol, user: `${protocol} ada` });
    const ben = await connect(t, two, { path: "/chat", protocol, user: `${protocol} ben` });
    const onHub = await connect(t, two, { path: "/hub", protocol, user: `${protocol} ben` });
    await onHub.invoke("JoinGroup", group);

    await ada.invoke("AddToGroup", group);
    await ben.invoke("AddToGroup", group);
    await ada.invoke("SendToGroup", group, "hello");
    await ben.waitFor("the greeting arrives", (log) => log.some(([, text]) => text === "hello"));
    await ben.invoke("SendPrivateMessage", `${protocol} ada`, "psst");
    await ben.invoke("RemoveFromGroup", group);
    await ada.invoke("SendToGroup", group, "bye");
    await ada.invoke("SendPrivateMessage", `${protocol} ben`, "last");
    assert((await cluster.redis.channels()).includes(`chat/group:${group}`));

    const joined = (who) => ["Send", `${who.id} has joined the group ${group}.`];
    const left = (who) => ["Send", `${who.id} has left the group ${group}.`];
    const expectedOfAda = [joined(ada), joined(ben), ["Send", "hello"], ["ReceiveMessage", "psst"], left(ben), ["Send", "bye"]];
    // All of Ada's are sent before what ends Ben's, so nothing more can come to either.
    await ben.waitFor("the last message arrives", (log) => log.some(([, text]) => text === "last"));
    await ada.waitFor("the last message arrives", (log) => log.length >= expectedOfAda.length);
    assert.deepEqual(ada.take(), expectedOfAda);
    assert.deepEqual(ben.take(), [joined(ben), ["Send", "hello"], ["ReceiveMessage", "last"]]);
    await cluster.barrier(onHub);
    assert.deepEqual(onHub.take(), [], "hubs are separate");
  });
}
