// Clients that take nothing, and methods that do not: who waits, and who does not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Subject } from "@microsoft/signalr";

import { connect as connectTo, protocols } from "./lib/client.mjs";
import { opshub, startCluster } from "./lib/cluster.mjs";
import { Valve } from "./lib/proxy.mjs";
import { deferred, settled, until } from "./lib/wait.mjs";

const cluster = await startCluster({ program: opshub });
const [one, two] = cluster.nodes;

const connect = (t, node, options) => connectTo(t, node, { path: opshub.path, ...options });

const ITEM_BYTES = 4096;
const ENDLESS = 2 ** 31 - 1;

const item = (number) => `${number}`.padStart(ITEM_BYTES, "0");

/** Has a stream of the client checked as it arrives. */
function follow(client, name, count) {
  const stream = { received: 0 };
  const begun = deferred(), ended = deferred();
  stream.begun = begun.promise;
  stream.ended = ended.promise; // resolves to what was wrong with it, if anything was
  stream.subscription = client.subscribe("Produce", [name, count, ITEM_BYTES], {
    next(text) {
      begun.resolve();
      if (text === item(stream.received)) stream.received++;
      else ended.resolve(`${text.length} bytes, that begin with ${text.slice(0, 20)}, instead of item ${stream.received}`);
    },
    error: ({ message }) => ended.resolve(message),
    complete: () => ended.resolve(),
  });
  return stream;
}

for (const protocol of Object.keys(protocols)) {
  /** Begins a stream whose client takes nothing any more, so that its method stands still. */
  async function stall(t, name) {
    const valve = await Valve.start(one);
    t.after(() => valve.stop());
    const other = await connect(t, one, { protocol });
    const stalled = await connect(t, valve, { protocol });
    const stream = follow(stalled, name, ENDLESS);
    await settled("the stream begins", stream.begun);
    valve.shut();

    const produced = () => other.invoke("Produced", name);
    const allOfAnother = 2000;
    await until("the method stands while another client takes all of a big stream", async () => {
      const before = await produced();
      const big = follow(other, `${name}, not`, allOfAnother);
      assert.equal(await settled("the big stream ends", big.ended), undefined);
      assert.equal(big.received, allOfAnother);
      const made = await produced();
      assert.notEqual(made, 0, "the stream has ended");
      if (made !== before) return `it has made ${made}, and ${before} before`;
    });
    return { valve, stream, produced };
  }

  test(`${protocol}: a method waits for the client that its stream is for, and goes on`, async (t) => {
    const { valve, stream, produced } = await stall(t, `${protocol} goes on`);
    const made = await produced();
    valve.open();
    const further = 2 * made;
    await until("the stream goes on", () => (stream.received < further ? `${stream.received} of ${further} items are there` : undefined));
    stream.subscription.dispose();
    await until("the method ends", async () => (await produced()) || undefined);
    assert.equal(await Promise.race([stream.ended, "no error"]), "no error");
  });

  for (const [how, end] of [
    ["says that it wants no more", ({ stream }) => stream.subscription.dispose()],
    ["is gone", ({ valve }) => valve.stop()],
  ]) {
    test(`${protocol}: a method that waits ends when its client ${how}`, async (t) => {
      const stalled = await stall(t, `${protocol} ${how}`);
      await end(stalled);
      await until("the method ends", async () => (await stalled.produced()) || undefined);
    });
  }

  test(`${protocol}: what waits for a method stops neither answers nor cancellations`, async (t) => {
    const client = await connect(t, one, { protocol });
    const asker = await connect(t, two, { protocol });
    const group = `${protocol} beside`;
    await asker.invoke("Join", group);
    client.handle("Answer", (question) => `${question}!`);
    const followed = client.subscribe("Follow", [group], {});

    const left = new Subject(), right = new Subject();
    const zipped = client.stream("Zip", left, "-", right);
    const waiting = Array.from({ length: 80 }, (_, i) => `${i}`.padStart(10_000, "0"));
    for (const text of waiting) right.next(text);

    assert.equal(await asker.invoke("Ask", client.id, "there", 3_600_000), "there!");
    followed.dispose();
    await asker.waitFor("the cancellation is heard", (log) => log.length >= 2);
    assert.deepEqual(asker.take(), [["Message", `following ${group}`], ["Message", `no longer following ${group}`]]);

    for (const i of waiting.keys()) left.next(`${i}`);
    left.complete();
    assert.deepEqual(await zipped, { items: waiting.map((text, i) => `${i}-${text}`) });
  });

  test(`${protocol}: of more than may wait nothing is dropped`, async (t) => {
    const client = await connect(t, one, { protocol, path: "/parallel" });
    const releaser = await connect(t, one, { protocol, path: "/parallel" });
    const names = [1, 2].map((i) => `${protocol} ${i} in the way`);
    const holding = names.map((name) => client.invoke("Hold", name));
    await client.waitFor("both are held", (log) => log.length >= 2);

    const lengths = Array.from({ length: 150 }, (_, i) => 30_000 + i); // 4.5 MB
    const waiting = lengths.map((length) => client.invoke("Length", "x".repeat(length)));
    for (const name of names) await releaser.invoke("Release", name);
    assert.deepEqual(await Promise.all(waiting), lengths);
    await Promise.all(holding);
  });
}
