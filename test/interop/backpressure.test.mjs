// Clients that take nothing, and methods that do not: who waits, and who does not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Subject } from "@microsoft/signalr";

import { connect as connectTo, protocols } from "./lib/client.mjs";
import { opshub, startCluster } from "./lib/cluster.mjs";
import { Valve } from "./lib/proxy.mjs";
import { deferred, settled, until } from "./lib/wait.mjs";

// No client is given up here for taking nothing.
const cluster = await startCluster({ program: opshub, env: { SEND_TIMEOUT: "1h" } });
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
    const client = await connect(t, valve, { protocol });
    const stream = follow(client, name, ENDLESS);
    await settled("the stream begins", stream.begun);
    valve.shut();

    const produced = () => other.invoke("Produced", name);
    const allOfAnother = 1000;
    await until("the method stands while another client takes all of a big stream", async () => {
      const before = await produced();
      const big = follow(other, `${name}, not`, allOfAnother);
      assert.equal(await settled("the big stream ends", big.ended), undefined);
      assert.equal(big.received, allOfAnother);
      const made = await produced();
      assert.notEqual(made, 0, "the stream has ended");
      if (made !== before) return `it has made ${made}, and ${before} before`;
    });
    return { valve, client, stream, produced };
  }

  test(`${protocol}: a method waits for the client that its stream is for, and goes on`, async (t) => {
    const { valve, stream, produced } = await stall(t, `${protocol} goes on`);
    const made = await produced();
    valve.open();
    const further = made + 100;
    await until("the stream goes on", () => (stream.received < further ? `${stream.received} of ${further} items are there` : undefined));
    stream.subscription.dispose();
    await until("the method ends", async () => (await produced()) || undefined);
    assert.equal(await Promise.race([stream.ended, "no error"]), "no error");
  });

  test(`${protocol}: a method that waits ends when its client wants no more`, async (t) => {
    const { valve, client, stream, produced } = await stall(t, `${protocol} no more`);
    stream.subscription.dispose();
    await until("the method ends", async () => (await produced()) || undefined);
    valve.open();
    assert.equal(await client.invoke("Produced", "nothing"), 0); // the connection goes on
  });

  test(`${protocol}: a method that waits ends when its client is gone`, async (t) => {
    const { valve, produced } = await stall(t, `${protocol} gone`);
    await valve.stop();
    await until("the method ends", async () => (await produced()) || undefined);
  });

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
    const valve = await Valve.start(one);
    t.after(() => valve.stop());
    const client = await connect(t, valve, { protocol, path: "/parallel" });
    const releaser = await connect(t, one, { protocol, path: "/parallel" });
    const names = [1, 2].map((i) => `${protocol} ${i} in the way`);
    const holding = names.map((name) => client.invoke("Hold", name));
    await client.waitFor("both are held", (log) => log.length >= 2);

    const lengths = [], waiting = [];
    let stood = 0;
    await until("the node reads no more", async () => {
      const { backlog } = valve;
      for (let i = 0; i < 10; i++) await releaser.stream("Held");
      stood = backlog > 0 && valve.backlog === backlog ? stood + 1 : 0;
      if (stood === 5) return undefined;
      for (let i = 0; i < 50 && lengths.length < 500; i++) {
        const length = 30_000 + lengths.length;
        lengths.push(length);
        waiting.push(client.invoke("Length", "x".repeat(length)));
      }
      return `it has read of ${lengths.length} invocations all but ${valve.backlog} bytes`;
    });
    for (const name of names) await releaser.invoke("Release", name);
    assert.deepEqual(await Promise.all(waiting), lengths);
    await Promise.all(holding);
  });
}
