// How a hub runs what its clients invoke: through filters, under other names, several at
// a time, until they are cancelled.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect as connectTo, Client, protocols } from "./lib/client.mjs";
import { opshub, startCluster } from "./lib/cluster.mjs";
import { token } from "./lib/token.mjs";
import { deferred, settled } from "./lib/wait.mjs";

const cluster = await startCluster({ program: opshub });
const [one, two] = cluster.nodes;

const connect = (t, node, options) => connectTo(t, node, { path: opshub.path, ...options });

for (const protocol of Object.keys(protocols)) {
  const named = (name) => `${protocol} ${name}`;

  test(`${protocol}: a filter of one method changes its arguments`, async (t) => {
    const member = await connect(t, two, { protocol });
    const speaker = await connect(t, one, { protocol });
    const group = named("decent");
    await member.invoke("Join", group);
    await speaker.invoke("Say", group, "this damned filter");
    await speaker.invoke("SendGroup", group, "this damned method has none");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "this ****** filter"], ["Message", "this damned method has none"]]);
  });

  test(`${protocol}: a filter of the hub sees every invocation that is bound and allowed`, async (t) => {
    const client = await connect(t, one, { protocol });
    const other = await connect(t, one, { protocol });
    await client.invoke("Join", named("counted"));
    await client.send("SendGroup", named("counted"), "counted");
    await assert.rejects(client.invoke("JoinFor", "counted", 0)); // by the method itself
    for (const refused of [["Nope"], ["Join", 1], ["RemoveUserFromAll", "nobody"]]) await assert.rejects(client.invoke(...refused));
    assert.equal(await client.invoke("Calls"), 4);
    assert.equal(await other.invoke("Calls"), 1);
  });

  test(`${protocol}: a filter sees connections come and go, and refuses some`, async (t) => {
    const watcher = await connect(t, two, { protocol });
    await watcher.invoke("Join", "door");
    const guest = await connect(t, one, { protocol });
    const id = guest.id;
    const banned = new Client(one.url, { path: opshub.path, protocol, token: token({ banned: true }), reconnect: [0, 0, 0] });
    const error = await banned.start().then(() => banned.closed, (reason) => reason);
    assert.equal(error.message, "Server returned an error on close: Connection closed with an error.");
    await guest.stop();
    await watcher.waitFor("the guest goes", (log) => log.some(([, text]) => text === `went ${id}`));
    await cluster.barrier(watcher);
    // Barriers are sent by clients who come too, once for each node.
    const came = watcher.take().map(([, text]) => text);
    assert.equal(came.filter((text) => text === `came ${id}`).length, 1);
    assert.deepEqual(came.filter((text) => text.startsWith("went ")), [`went ${id}`]);
  });

  test(`${protocol}: a method has the name that it was given`, async (t) => {
    const client = await connect(t, one, { protocol, user: "ada" });
    assert.equal(await client.invoke("who am I"), "ada");
    assert.equal(await client.invoke("WHO AM I"), "ada");
    await assert.rejects(client.invoke("WhoAmI"), { message: "Failed to invoke 'WhoAmI' due to an error on the server. HubException: Method does not exist." });
  });

  test(`${protocol}: two invocations of a client run at once, and the others wait`, async (t) => {
    const client = await connect(t, one, { protocol, path: "/parallel" });
    const releaser = await connect(t, one, { protocol, path: "/parallel" });
    const [a, b, c] = ["a", "b", "c"].map(named);
    const held = () => client.stream("Held"); // streams run beside
    const heard = (count) => client.waitFor(`${count} messages arrive`, (log) => log.length >= count);

    const holding = [client.invoke("Hold", a), client.invoke("Hold", b)];
    await heard(2);
    assert.deepEqual(client.take().sort(), [["Message", `holding ${a}`], ["Message", `holding ${b}`]]);

    const waiting = Array.from({ length: 50 }, (_, i) => client.invoke("Echo", `${i}`));
    holding.push(client.invoke("Hold", c));
    // What is answered after them shows that they have been read, and have not been run.
    for (let i = 0; i < 10; i++) assert.deepEqual(await held(), { items: [a, b] });
    assert.deepEqual(client.take(), []);

    await releaser.invoke("Release", b);
    await holding[1];
    assert.deepEqual(await Promise.all(waiting), waiting.map((_, i) => `${i}`));
    await heard(51);
    assert.deepEqual(client.take(), [...waiting.map((_, i) => ["Message", `${i}`]), ["Message", `holding ${c}`]]);
    assert.deepEqual(await held(), { items: [a, c] });
    for (const name of [a, c]) await releaser.invoke("Release", name);
    await Promise.all(holding);
  });

  test(`${protocol}: the clients' two invocations are their own`, async (t) => {
    const clients = [await connect(t, one, { protocol, path: "/parallel" }), await connect(t, one, { protocol, path: "/parallel" })];
    const releaser = await connect(t, one, { protocol, path: "/parallel" });
    const names = clients.map((_, i) => [named(`${i} first`), named(`${i} second`)]);
    const holding = clients.flatMap((client, i) => names[i].map((name) => client.invoke("Hold", name)));
    for (const [i, client] of clients.entries()) {
      await client.waitFor("both are held", (log) => log.length >= 2);
      assert.deepEqual(client.take().sort(), names[i].map((name) => ["Message", `holding ${name}`]));
    }
    for (const name of names.flat()) await releaser.invoke("Release", name);
    await Promise.all(holding);
  });

  test(`${protocol}: a method hears that its stream is not wanted any more`, async (t) => {
    const watcher = await connect(t, two, { protocol });
    for (const [how, end] of [
      ["disposed of", (_, subscription) => subscription.dispose()],
      ["gone with its client", (client) => client.stop()],
    ]) {
      const group = named(how);
      await watcher.invoke("Join", group);
      const follower = await connect(t, one, { protocol });
      const first = deferred();
      const subscription = follower.subscribe("Follow", [group], { next: first.resolve });
      assert.equal(await settled("the stream has begun", first.promise), group);
      await cluster.barrier(watcher);
      assert.deepEqual(watcher.take(), [["Message", `following ${group}`]]);
      await end(follower, subscription);
      await watcher.waitFor("the method hears of it", (log) => log.length > 0);
      assert.deepEqual(watcher.take(), [["Message", `no longer following ${group}`]]);
    }
  });
}
