// Streams in both directions.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Subject } from "@microsoft/signalr";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { openHub, RECORD_SEPARATOR } from "./lib/socket.mjs";
import { until } from "./lib/wait.mjs";

const cluster = await startCluster({ nodes: 1 });
const [node] = cluster.nodes;

const below = (count) => Array.from({ length: count }, (_, i) => i);

/** A subject that sends the items, and then its end, once it is subscribed to. */
function upload(items, end = (subject) => subject.complete()) {
  const subject = new Subject();
  queueMicrotask(() => {
    for (const item of items) subject.next(item);
    end(subject);
  });
  return subject;
}

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: from the hub`, async (t) => {
    const client = await connect(t, node, { protocol });
    for (const count of [0, 1, 1000]) {
      assert.deepEqual(await client.stream("Counter", count, 0), { items: below(count) });
    }
    assert.deepEqual(await client.stream("counter", 5, 2), { items: below(5) });
  });

  test(`${protocol}: many at once, and invocations between them`, async (t) => {
    const client = await connect(t, node, { protocol });
    const streams = below(20).map((count) => client.stream("Counter", count, 1));
    assert.equal(await client.invoke("Echo", "between"), "between");
    assert.deepEqual(await Promise.all(streams), below(20).map((count) => ({ items: below(count) })));
  });

  test(`${protocol}: failing`, async (t) => {
    const client = await connect(t, node, { protocol });
    const failed = "An error occurred on the server while streaming results.";
    for (const count of [0, 3]) {
      assert.deepEqual(await client.stream("FailingStream", count, true, "told"), { items: below(count), error: `${failed} HubException: told` });
      assert.deepEqual(await client.stream("FailingStream", count, false, "secret"), { items: below(count), error: failed });
    }
    assert.deepEqual(await client.stream("Nope"), { items: [], error: "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist." });
    assert.deepEqual(await client.stream("Counter", "1", 0), { items: [], error: "Failed to invoke 'Counter' due to an error on the server." });
    await assert.rejects(client.invoke("Counter", 1, 0), { message: "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation." });
    assert.equal(await client.invoke("Echo", "goes on"), "goes on");
  });

  test(`${protocol}: until it is cancelled, or the connection ends`, async (t) => {
    const client = await connect(t, node, { protocol });
    const observer = await connect(t, node);
    const running = (count) => until(`${count} streams run`, async () => {
      const n = await observer.invoke("RunningStreams");
      if (n !== count) return `${n} do`;
    });
    await running(0);
    const streams = below(3).map(() => client.subscribe("Infinite", [1], {}));
    await running(3);
    streams[0].dispose();
    await running(2);
    assert.equal(await client.invoke("Echo", "goes on"), "goes on");
    await client.stop();
    await running(0);
  });

  test(`${protocol}: to the hub`, async (t) => {
    const client = await connect(t, node, { protocol });
    assert.equal(await client.invoke("Sum", upload([])), 0);
    assert.equal(await client.invoke("Sum", upload([20, 22])), 42);
    assert.equal(await client.invoke("Sum", upload(below(1000))), 499500);
    const sums = below(10).map((count) => client.invoke("Sum", upload(below(count))));
    assert.deepEqual(await Promise.all(sums), [0, 0, 1, 3, 6, 10, 15, 21, 28, 36]);
  });

  test(`${protocol}: to the hub, failing`, async (t) => {
    const client = await connect(t, node, { protocol });
    const failed = "An unexpected error occurred invoking 'Sum' on the server. HubException:";
    await assert.rejects(client.invoke("Sum", upload([1, 2], (subject) => subject.error(new Error("changed my mind")))), { message: `${failed} changed my mind` });
    await assert.rejects(client.invoke("Sum", upload([1, "two", 3])), { message: `${failed} Failed to bind Stream message.` });
    await assert.rejects(client.invoke("Sum"), { message: `${failed} Client sent 0 stream(s), Hub method expects 1.` });
    assert.equal(await client.invoke("Sum", upload([1])), 1);
  });

  test(`${protocol}: both ways`, async (t) => {
    const client = await connect(t, node, { protocol });
    assert.deepEqual(await client.stream("Doubled", upload(below(1000))), { items: below(1000).map((i) => 2 * i) });
    assert.deepEqual(await client.stream("Doubled", upload([1], (subject) => subject.error(new Error("enough")))), {
      items: [2],
      error: "An error occurred on the server while streaming results. HubException: enough",
    });
  });
}

test("more streams than the method takes", async (t) => {
  const socket = await openHub(t, node);
  socket.send(`{"type":1,"invocationId":"1","target":"Sum","arguments":[],"streamIds":["2","3"]}${RECORD_SEPARATOR}`);
  assert.deepEqual(JSON.parse(await socket.frame()), {
    type: 3,
    invocationId: "1",
    error: "An unexpected error occurred invoking 'Sum' on the server. HubException: Client sent 2 stream(s), Hub method expects 1.",
  });
});
