// Lets the official client talk through a balancer by every transport: two users in a
// group, who write to each other. It ends with status 0 if that goes as it should.
//
//     URL=http://127.0.0.1:8080 ADA=token BEN=token node official.mjs

import assert from "node:assert/strict";

import { connect } from "../interop/lib/client.mjs";

/** What can be combined; event streams carry text alone. */
const combinations = [
  ["WebSockets", "json"],
  ["WebSockets", "messagepack"],
  ["ServerSentEvents", "json"],
  ["LongPolling", "json"],
  ["LongPolling", "messagepack"],
];

const { URL: url, ADA, BEN } = process.env;
const count = 25;

const room = (i) => `to the room ${i} é😀`;
const ben = (i) => `to ben ${i} ${"x".repeat(i * 400)}`;
const hers = Array.from({ length: count }, (_, i) => room(i));
const his = Array.from({ length: count }, (_, i) => ben(i));
const of = (log, method) => log.filter(([name]) => name === method).map(([, text]) => text);

for (const [transport, protocol] of combinations) {
  const options = { path: "/chat", transport, protocol };
  const [a, b] = await Promise.all([ADA, BEN].map((token) => connect(undefined, { url }, { ...options, token })));
  const group = `${transport} ${protocol}`;
  for (const client of [a, b]) await client.invoke("AddToGroup", group);
  await a.waitFor("ada knows that both have joined", (log) => log.length === 2);
  await b.waitFor("ben knows that he has joined", (log) => log.length === 1);
  a.take();
  b.take();

  for (const i of hers.keys()) {
    await a.invoke("SendToGroup", group, room(i));
    await a.invoke("SendPrivateMessage", "ben", ben(i));
  }
  await b.waitFor("all has come to ben", (log) => log.length >= 2 * count);
  await a.waitFor("all has come to ada", (log) => log.length >= count);
  const received = b.take();
  assert.deepEqual(of(received, "Send"), hers);
  assert.deepEqual(of(received, "ReceiveMessage"), his);
  assert.deepEqual(of(a.take(), "Send"), hers);

  await Promise.all([a.stop(), b.stop()]);
  for (const client of [a, b]) assert.equal(await client.closed, undefined);
  console.log(`${transport}, ${protocol}: all has come`);
}
