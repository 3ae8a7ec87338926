// How connections end, who is told, and how clients come back.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { Balancer } from "./lib/proxy.mjs";
import { openHub, RECORD_SEPARATOR } from "./lib/socket.mjs";
import { until } from "./lib/wait.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;
const balancer = await Balancer.start(cluster.nodes);
after(() => balancer.stop());

/** Delays of automatic reconnect that go on for longer than any test. */
const PERSISTENT = [0, ...Array.from({ length: 600 }, () => 50)];

async function invokeRaw(socket, target, ...args) {
  socket.send(JSON.stringify({ type: 1, invocationId: "1", target, arguments: args }) + RECORD_SEPARATOR);
  return JSON.parse(await socket.frame()).result;
}

/** Ways for a connection to end: each ends it and returns its id. */
const endings = {
  "the client stops": async (t) => {
    const client = await connect(t, one);
    return { id: client.id, end: () => client.stop() };
  },
  "the hub aborts it": async (t) => {
    const client = await connect(t, one);
    return { id: client.id, end: () => client.send("Abort") };
  },
  "the client sends Close": async (t) => {
    const socket = await openHub(t, one);
    return { id: (await invokeRaw(socket, "WhoAmI")).connectionId, end: () => socket.send(`{"type":7}${RECORD_SEPARATOR}`) };
  },
  "the client sends Close with an error": async (t) => {
    const socket = await openHub(t, one);
    return { id: (await invokeRaw(socket, "WhoAmI")).connectionId, end: () => socket.send(`{"type":7,"error":"enough"}${RECORD_SEPARATOR}`) };
  },
  "the WebSocket is closed": async (t) => {
    const socket = await openHub(t, one);
    return { id: (await invokeRaw(socket, "WhoAmI")).connectionId, end: () => socket.close(1001) };
  },
  "the TCP connection is cut": async (t) => {
    const socket = await openHub(t, one);
    return { id: (await invokeRaw(socket, "WhoAmI")).connectionId, end: () => socket.cut() };
  },
  "the client sends nonsense": async (t) => {
    const socket = await openHub(t, one);
    return { id: (await invokeRaw(socket, "WhoAmI")).connectionId, end: () => socket.send(`nonsense${RECORD_SEPARATOR}`) };
  },
  "half a message is all that comes": async (t) => {
    const socket = await openHub(t, one);
    const { connectionId: id } = await invokeRaw(socket, "WhoAmI");
    return { id, end: () => [socket.send('{"type":1,"tar'), socket.close(1000)] };
  },
};

for (const [title, begin] of Object.entries(endings)) {
  test(`watchers are told once when ${title}`, async (t) => {
    const { id, end } = await begin(t);
    const watchers = await Promise.all(cluster.nodes.map((node) => connect(t, node)));
    for (const watcher of watchers) await watcher.invoke("Watch", id);
    await cluster.barrier(...watchers);
    assert.deepEqual(watchers.map((w) => w.take()), [[], []], "told before the end");
    await end();
    for (const watcher of watchers) await watcher.waitFor("the watcher is told", (log) => log.length > 0);
    await watchers[0].invoke("SendClient", id, "nobody is there");
    await cluster.barrier(...watchers);
    for (const watcher of watchers) assert.deepEqual(watcher.take(), [["Disconnected", id]]);
  });
}

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: an aborted client does not come back, and gets no answer`, async (t) => {
    const client = await connect(t, one, { protocol, reconnect: PERSISTENT });
    client.onReconnecting(() => assert.fail("the client reconnects"));
    await assert.rejects(client.invoke("Abort"), { message: "Invocation canceled due to the underlying connection being closed." });
    assert.equal(await client.closed, undefined);
  });

  test(`${protocol}: a client that stops itself ends without an error`, async (t) => {
    const client = await connect(t, one, { protocol });
    await client.stop();
    assert.equal(await client.closed, undefined);
  });
}

test("what the server says at the end", async (t) => {
  const aborted = await openHub(t, one);
  aborted.send(`{"type":1,"invocationId":"1","target":"Abort","arguments":[]}${RECORD_SEPARATOR}`);
  assert.deepEqual(await aborted.end(), { code: 1000, frames: ['{"type":7}'] });

  const closed = await openHub(t, one);
  closed.send(`{"type":7}${RECORD_SEPARATOR}`);
  assert.deepEqual(await closed.end(), { code: 1000, frames: ['{"type":7}'] });

  const left = await openHub(t, one);
  left.close(1001);
  assert.deepEqual(await left.end(), { code: 1000, frames: [] });
});

test("what was sent before an abort arrives before the end", async (t) => {
  const client = await connect(t, one);
  const calls = [];
  for (let i = 0; i < 50; i++) calls.push(client.send("SendCaller", `${i}`));
  client.send("Abort");
  await client.closed;
  assert.deepEqual(client.take(), calls.map((_, i) => ["Message", `${i}`]));
});

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: what a client sent before it stopped is done`, async (t) => {
    const witness = await connect(t, two);
    for (let round = 0; round < 10; round++) {
      const client = await connect(t, one, { protocol });
      const expected = [];
      for (let i = 0; i < 50; i++) {
        expected.push(["Message", `${i}`]);
        await client.send("SendClient", witness.id, `${i}`);
      }
      await client.stop();
      await witness.waitFor("all of it arrives", (log) => log.length >= expected.length);
      assert.deepEqual(witness.take(), expected);
    }
  });
}

test("a call in progress ends with its connection", async (t) => {
  const client = await connect(t, one);
  const watcher = await connect(t, two);
  await watcher.invoke("Watch", client.id);
  const answer = client.invoke("Slow", 3_600_000);
  const ending = assert.rejects(answer);
  await client.stop();
  await ending;
  await watcher.waitFor("the watcher is told", (log) => log.length > 0);
});

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: clients of a node that ends in order come back elsewhere`, async (t) => {
    const group = `${protocol} moved`;
    const sender = await connect(t, two);
    const clients = [], moved = new Set();
    for (let i = 0; i < 6; i++) {
      const client = await connect(t, balancer, { protocol, user: `${protocol} mover`, reconnect: PERSISTENT });
      const before = client.id;
      client.onReconnecting((error) => assert.equal(error, undefined));
      client.onReconnected((id) => {
        assert.notEqual(id, before);
        moved.add(client);
        client.send("JoinGroup", group);
      });
      await client.invoke("JoinGroup", group);
      clients.push(client);
    }
    const direct = await openHub(t, one);

    await one.terminate();
    assert.deepEqual(await direct.end(), { code: 1000, frames: ['{"type":7,"allowReconnect":true}'] });

    // Who is connected and answered has joined again before, if that was necessary.
    for (const client of clients) {
      await until("the client is served", () => (client.connected ? client.invoke("Nothing") : "not connected"));
    }
    assert(moved.size > 0 && moved.size < clients.length, `${moved.size} of ${clients.length} had to move`);
    await sender.invoke("SendGroup", group, "to the group");
    await sender.invoke("SendUser", `${protocol} mover`, "to the user");
    await cluster.barrier(...clients);
    for (const client of clients) assert.deepEqual(client.take(), [["Message", "to the group"], ["Message", "to the user"]]);

    await one.restart();
    await until("the node is back", async () => {
      const member = await connect(t, one, { protocol });
      await member.invoke("JoinGroup", group);
      await sender.invoke("SendGroup", group, "welcome back");
      await member.waitFor("the message arrives", (log) => log.length > 0);
    });
  });
}
