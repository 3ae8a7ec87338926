// Several streams to the hub in one call, with plain arguments and a stream back.
//
// The official client overlooks a stream that follows directly upon another among the
// arguments, so here something else stands between the two. On the wire streams are no
// arguments: where they stand among these makes no difference.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MessageType, NullLogger, Subject } from "@microsoft/signalr";

import { connect as connectTo, protocols } from "./lib/client.mjs";
import { opshub, startCluster } from "./lib/cluster.mjs";
import { lengthPrefix, openHub, RECORD_SEPARATOR } from "./lib/socket.mjs";
import { deferred, settled } from "./lib/wait.mjs";

const cluster = await startCluster({ program: opshub, nodes: 1 });
const [node] = cluster.nodes;

const connect = (t, options) => connectTo(t, node, { path: opshub.path, ...options });

const below = (count) => Array.from({ length: count }, (_, i) => i);
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** Starts to zip, and reads the pairs one by one. */
function zip(client, left, right) {
  const pairs = [], ended = deferred();
  let arrived = deferred();
  client.subscribe("Zip", [left, "-", right], {
    next(pair) {
      pairs.push(pair);
      arrived.resolve();
      arrived = deferred();
    },
    error: ({ message }) => ended.resolve(message),
    complete: () => ended.resolve("no error"),
  });
  return {
    async next() {
      if (pairs.length === 0) await settled("a pair arrives", arrived.promise);
      return pairs.shift();
    },
    /** Waits for the end; returns what came before, and the error. */
    async end() {
      const error = await settled("the stream ends", ended.promise);
      return { pairs: pairs.splice(0), error };
    },
  };
}

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: two streams and a plain argument, whichever comes first`, async (t) => {
    const client = await connect(t, { protocol });
    const first = below(300), second = below(200), weight = -3;
    const expected = sum(first) + weight * sum(second);
    for (const order of ["first", "second", "both"]) {
      const streams = [new Subject(), new Subject()];
      const answer = client.invoke("Weigh", streams[0], weight, streams[1]);
      const all = (stream, items) => {
        for (const item of items) stream.next(item);
        stream.complete();
      };
      if (order === "second") all(streams[1], second);
      if (order === "both") {
        for (const i of second.keys()) streams.forEach((stream, s) => stream.next([first, second][s][i]));
        all(streams[0], first.slice(second.length));
        streams[1].complete();
      } else {
        all(streams[0], first);
      }
      if (order === "first") all(streams[1], second);
      assert.equal(await answer, expected, order);
    }
  });

  test(`${protocol}: many calls with two streams each at once`, async (t) => {
    const client = await connect(t, { protocol });
    const calls = below(20).map((n) => ({ n, streams: [new Subject(), new Subject()] }));
    const answers = calls.map(({ n, streams }) => client.invoke("Weigh", streams[0], n, streams[1]));
    for (const i of below(50)) for (const { n, streams } of calls) streams.forEach((stream, s) => stream.next(i + s + n));
    for (const { streams } of calls.reverse()) for (const stream of streams) stream.complete();
    assert.deepEqual(await Promise.all(answers), below(20).map((n) => sum(below(50).map((i) => i + n + n * (i + 1 + n)))));
  });

  test(`${protocol}: two streams, and one back that keeps step with them`, async (t) => {
    const client = await connect(t, { protocol });
    const left = new Subject(), right = new Subject();
    const pairs = zip(client, left, right);
    for (const i of below(20)) {
      left.next(`left ${i}`);
      assert.equal(await client.invoke("Produced", "nothing"), 0); // others run beside
      right.next(`right ${i}`);
      assert.equal(await pairs.next(), `left ${i}-right ${i}`);
    }
    left.complete();
    assert.deepEqual(await pairs.end(), { pairs: [], error: "no error" });
    right.next("nobody wants this");
    right.complete();
    assert.equal(await client.invoke("Produced", "nothing"), 0);
  });

  for (const side of ["left", "right"]) {
    test(`${protocol}: the ${side} one of two streams ends early`, async (t) => {
      const client = await connect(t, { protocol });
      for (const [end, error] of [
        [(stream) => stream.complete(), "no error"],
        [(stream) => stream.error(new Error("changed my mind")), "An error occurred on the server while streaming results. HubException: changed my mind"],
        [(stream) => stream.next(42), "An error occurred on the server while streaming results. HubException: Failed to bind Stream message."],
      ]) {
        const streams = { left: new Subject(), right: new Subject() };
        const pairs = zip(client, streams.left, streams.right);
        for (const stream of Object.values(streams)) stream.next("a");
        const other = side === "left" ? streams.right : streams.left;
        other.next("b");
        end(streams[side]);
        assert.deepEqual(await pairs.end(), { pairs: ["a-a"], error });
        other.next("nobody wants this");
        other.error(new Error("nor this"));
        assert.equal(await client.invoke("Produced", "nothing"), 0);
      }
    });
  }

  test(`${protocol}: one stream for a method that takes two`, async (t) => {
    const client = await connect(t, { protocol });
    const misfit = (method) => `An unexpected error occurred invoking '${method}' on the server. HubException: Client sent 1 stream(s), Hub method expects 2.`;
    await assert.rejects(client.invoke("Weigh", new Subject(), 1), { message: misfit("Weigh") });
    assert.deepEqual(await client.stream("Zip", "-", new Subject()), { items: [], error: misfit("Zip") });
  });

  test(`${protocol}: streams are told apart by the order of their ids, whatever these are`, async (t) => {
    const hubProtocol = protocols[protocol]();
    const socket = await openHub(t, node, { path: opshub.path, protocol });
    const send = (message) => socket.send(hubProtocol.writeMessage(message));
    async function receive() {
      const frame = await socket.frame();
      const input = protocol === "json" ? frame + RECORD_SEPARATOR : Uint8Array.from([...lengthPrefix(frame.length), ...frame]).buffer;
      const [{ type, invocationId, item, error }] = hubProtocol.parseMessages(input, NullLogger.instance);
      return { type, invocationId, item, error };
    }
    for (const [left, right] of [["1", "0"], ["call", "another"], ["ä", " "]]) {
      send({ type: MessageType.StreamInvocation, invocationId: "call", target: "Zip", arguments: ["-"], streamIds: [left, right] });
      for (const i of [1, 2]) {
        send({ type: MessageType.StreamItem, invocationId: right, item: `right ${i}` });
        send({ type: MessageType.StreamItem, invocationId: left, item: `left ${i}` });
        assert.deepEqual(await receive(), { type: MessageType.StreamItem, invocationId: "call", item: `left ${i}-right ${i}`, error: undefined });
      }
      send({ type: MessageType.Completion, invocationId: left });
      assert.deepEqual(await receive(), { type: MessageType.Completion, invocationId: "call", item: undefined, error: undefined });
    }
  });
}
