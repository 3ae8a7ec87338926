// Questions that the hub asks a client, and that are not answered, or too late.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, connect as connectTo, protocols } from "./lib/client.mjs";
import { opshub, startCluster } from "./lib/cluster.mjs";
import { Valve } from "./lib/proxy.mjs";
import { token } from "./lib/token.mjs";
import { deferred, settled, until } from "./lib/wait.mjs";

const cluster = await startCluster({ program: opshub, env: { OPERATION_TIMEOUT: "2s", PROBE_INTERVAL: "500ms" } });
const [one, two] = cluster.nodes;

const HOUR_MS = 3_600_000;
const PERSISTENT = [0, ...Array.from({ length: 600 }, () => 50)];

const connect = (t, node, options) => connectTo(t, node, { path: opshub.path, ...options });

const failed = (text) => ({ message: `An unexpected error occurred invoking 'Ask' on the server. HubException: ${text}` });

/** Makes the client answer, but think about what is hard. */
function answering(client) {
  const asked = deferred(), thought = deferred();
  client.handle("Answer", (question) => {
    if (question !== "hard") return `${question}!`;
    asked.resolve();
    return thought.promise;
  });
  return {
    asked: () => settled("the client is asked", asked.promise),
    /** Answers what is hard. */
    async answer(text) {
      thought.resolve(text);
      await new Promise(setImmediate); // the client has written its answer
    },
  };
}

for (const protocol of Object.keys(protocols)) for (const [where, node] of [["the same node", one], ["another node", two]]) {
  for (const [title, giveUp] of [
    ["after the deadline", ({ asker, client }) => assert.rejects(asker.invoke("Ask", client.id, "hard", 500), failed("Invocation canceled by the server."))],
    ["when who asked has gone", async ({ asker, client, asked }) => {
      const ended = assert.rejects(asker.invoke("Ask", client.id, "hard", HOUR_MS));
      await asked();
      await asker.stop();
      await ended;
    }],
  ]) {
    test(`${protocol}: a client of ${where} answers ${title}`, async (t) => {
      const client = await connect(t, node, { protocol, reconnect: [0] });
      client.onReconnecting(() => assert.fail("the client reconnects"));
      const { asked, answer } = answering(client);
      await giveUp({ asker: await connect(t, one, { protocol }), client, asked });
      await asked();

      const other = await connect(t, one, { protocol });
      assert.equal(await other.invoke("Ask", client.id, "meanwhile", HOUR_MS), "meanwhile!");
      const next = other.invoke("Ask", client.id, "next", HOUR_MS);
      await answer("too late");
      assert.equal(await next, "next!");
      assert.equal(await other.invoke("Ask", client.id, "later", HOUR_MS), "later!");
      assert.equal(await client.invoke("Produced", "nothing"), 0);
    });
  }

  test(`${protocol}: a client of ${where} ends before it has answered`, async (t) => {
    const asker = await connect(t, one, { protocol });
    const operator = await connect(t, one, { protocol, token: token({ sub: "operator", role: "operator" }) });
    for (const [how, end] of [
      ["stops", ({ client }) => client.stop()],
      ["is closed", ({ client }) => operator.invoke("CloseConnection", client.id, "", false)],
      ["is cut off", ({ valve }) => valve.stop()],
    ]) {
      const valve = await Valve.start(node);
      t.after(() => valve.stop());
      const client = await connect(t, valve, { protocol });
      const { asked } = answering(client);
      const told = assert.rejects(asker.invoke("Ask", client.id, "hard", HOUR_MS), failed("disconnected"), how);
      await asked();
      await end({ client, valve });
      await told;
    }
    await assert.rejects(asker.invoke("Ask", "unknown", "easy", HOUR_MS), failed("no such connection"));
  });
}

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: a client cannot be asked before OnConnected has returned`, async () => {
    const client = new Client(one.url, { path: opshub.path, protocol, token: token({ introduce: true }), reconnect: [0, 0, 0] });
    client.handle("Answer", () => assert.fail("the client was asked"));
    const error = await client.start().then(() => client.closed, (reason) => reason);
    assert.equal(error.message, "Server returned an error on close: Connection closed with an error. HubException: Client results inside OnConnectedAsync Hub methods are not allowed.");
  });
}

/** For each protocol, a client of the second node and one of the first who asks it. */
async function connectPairs(t) {
  const pairs = [];
  for (const protocol of Object.keys(protocols)) {
    const client = await connect(t, two, { protocol, reconnect: PERSISTENT });
    pairs.push({ protocol, client, id: client.id, asker: await connect(t, one, { protocol }), ...answering(client) });
  }
  return pairs;
}

test("the node of the clients does not hear the question", async (t) => {
  const pairs = await connectPairs(t);
  const silent = await pairs[0].client.invoke("Node");
  // It may be taken for dead before the operation's time is over.
  const expected = [`no answer from ${silent}`, "disconnected"].map((text) => failed(text).message);
  await two.frozenDuring(() => Promise.all(pairs.map(({ asker, id }) => (
    assert.rejects(asker.invoke("Ask", id, "hard", HOUR_MS), ({ message }) => expected.includes(message))
  ))));
  for (const { asker, id, answer } of pairs) {
    await answer("too late"); // in case it has heard after all
    await until("the node hears again", async () => assert.equal(await asker.invoke("Ask", id, "easy", HOUR_MS), "easy!"));
  }
});

test("the node of clients that have been asked is killed", async (t) => {
  const pairs = await connectPairs(t);
  const ends = pairs.map(({ asker, id }) => asker.invoke("Ask", id, "hard", HOUR_MS).then(
    (answer) => assert.fail(`answered ${answer}`),
    ({ message }) => message,
  ));
  const back = pairs.map(({ client }) => {
    const reconnected = deferred();
    client.onReconnected(reconnected.resolve);
    return reconnected.promise;
  });
  await Promise.all(pairs.map(({ asked }) => asked()));
  for (const { client } of pairs) {
    // By now the node of the askers knows as well that the clients have been asked.
    const other = await connect(t, one);
    for (let i = 0; i < 10; i++) assert.equal(await other.invoke("Ask", client.id, `${i}`, HOUR_MS), `${i}!`);
  }

  await two.kill();
  for (const end of ends) assert.equal(await settled("who asks is told", end), failed("disconnected").message);
  for (const { protocol, asker } of pairs) {
    const neighbour = await connect(t, one, { protocol });
    answering(neighbour);
    assert.equal(await asker.invoke("Ask", neighbour.id, "and you", HOUR_MS), "and you!");
  }

  await two.restart();
  for (const [i, { client, id, asker, answer }] of pairs.entries()) {
    const again = await settled("the client is back", back[i]);
    await answer("too late, and from another connection");
    await until("the old connection is gone", () => asker.invoke("Ask", id, "easy", HOUR_MS).then(
      () => "it answers",
      ({ message }) => (message === failed("no such connection").message ? undefined : message),
    ));
    assert.equal(await asker.invoke("Ask", again, "again", HOUR_MS), "again!");
    assert.equal(await client.invoke("Produced", "nothing"), 0);
  }
});
