// Who belongs to which user and group, and for how long.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { rounds, until } from "./lib/wait.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

for (const protocol of Object.keys(protocols)) {
  const named = (name) => `${protocol} ${name}`;

  test(`${protocol}: after a leave has returned nothing sent later arrives`, async (t) => {
    const member = await connect(t, one, { protocol });
    const stayer = await connect(t, one, { protocol });
    const sender = await connect(t, two, { protocol });
    const group = named("left"), alone = named("left alone");
    await stayer.invoke("JoinGroup", group);
    for (let i = 0; i < rounds(500); i++) {
      for (const g of [group, alone]) {
        await member.invoke("JoinGroup", g);
        await sender.invoke("SendGroup", g, `${i} in ${g}`);
        await member.waitFor("the member receives", (log) => log.length > 0);
        assert.deepEqual(member.take(), [["Message", `${i} in ${g}`]]);
        await member.invoke("LeaveGroup", g);
        await sender.invoke("SendGroup", g, `${i} not in ${g}`);
        await cluster.barrier(member);
        assert.deepEqual(member.take(), []);
      }
    }
    await cluster.barrier(stayer);
    assert.equal(stayer.take().length, 2 * rounds(500));
  });

  test(`${protocol}: joining twice is joining once, leaving twice is no error`, async (t) => {
    const member = await connect(t, one, { protocol });
    const sender = await connect(t, two, { protocol });
    const group = named("twice");
    await member.invoke("LeaveGroup", group);
    await Promise.all([member.invoke("JoinGroup", group), member.invoke("JoinGroup", group)]);
    await member.invoke("JoinGroup", group);
    await sender.invoke("SendGroup", group, "in");
    await cluster.barrier(member);
    await member.invoke("LeaveGroup", group);
    await sender.invoke("SendGroup", group, "out");
    await member.invoke("LeaveGroup", group);
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "in"]]);
  });

  for (const [where, other] of [["the same node", one], ["another node", two]]) {
    test(`${protocol}: a connection is added and removed by one of ${where}`, async (t) => {
      const member = await connect(t, one, { protocol });
      const adder = await connect(t, other, { protocol });
      const sender = await connect(t, two, { protocol });
      for (let i = 0; i < rounds(200); i++) {
        const group = named(`by ${where} ${i}`);
        await adder.invoke("AddConnection", member.id, group);
        await sender.invoke("SendGroup", group, "in");
        await cluster.barrier(member);
        await adder.invoke("RemoveConnection", member.id, group);
        await sender.invoke("SendGroup", group, "out");
        await adder.invoke("RemoveConnection", member.id, group); // no error
        await cluster.barrier(member, adder);
        assert.deepEqual([member.take(), adder.take()], [[["Message", "in"]], []]);
      }
    });
  }

  test(`${protocol}: who is not connected anywhere cannot be added or removed`, async (t) => {
    const client = await connect(t, one, { protocol });
    for (const method of ["AddConnection", "RemoveConnection"]) {
      await assert.rejects(client.invoke(method, "unknown", "group"), { message: `An unexpected error occurred invoking '${method}' on the server.` });
    }
  });

  test(`${protocol}: names are case-sensitive`, async (t) => {
    const upper = await connect(t, one, { protocol, user: named("Ada") });
    const lower = await connect(t, one, { protocol, user: named("ada") });
    const sender = await connect(t, two, { protocol });
    await upper.invoke("JoinGroup", named("Room"));
    await lower.invoke("JoinGroup", named("room"));
    for (const [method, name] of [["SendUser", "Ada"], ["SendUser", "ada"], ["SendUser", "ADA"], ["SendGroup", "Room"], ["SendGroup", "room"], ["SendGroup", "ROOM"]]) {
      await sender.invoke(method, named(name), name);
    }
    await lower.invoke("LeaveGroup", named("Room"));
    await upper.invoke("LeaveGroup", named("room"));
    await sender.invoke("SendGroup", named("Room"), "still in Room");
    await cluster.barrier(upper, lower);
    assert.deepEqual(upper.take(), [["Message", "Ada"], ["Message", "Room"], ["Message", "still in Room"]]);
    assert.deepEqual(lower.take(), [["Message", "ada"], ["Message", "room"]]);
  });

  test(`${protocol}: one connection may be in groups whose names differ in case alone`, async (t) => {
    const member = await connect(t, one, { protocol });
    const sender = await connect(t, two, { protocol });
    await member.invoke("JoinGroup", named("Both"));
    await member.invoke("JoinGroup", named("both"));
    await sender.invoke("SendGroups", [named("Both"), named("both")], "twice");
    await cluster.barrier(member);
    await member.invoke("LeaveGroup", named("both"));
    await sender.invoke("SendGroups", [named("Both"), named("both")], "once");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "twice"], ["Message", "twice"], ["Message", "once"]]);
  });

  test(`${protocol}: a user with many connections on both nodes`, async (t) => {
    const user = named("many");
    const connections = [];
    for (let i = 0; i < 8; i++) connections.push(await connect(t, cluster.nodes[i % 2], { protocol, user }));
    const sender = await connect(t, two, { protocol });

    await sender.invoke("SendUser", user, "all eight");
    await cluster.barrier(...connections);
    assert.deepEqual(connections.map((c) => c.take()), connections.map(() => [["Message", "all eight"]]));

    // While a node has any of the user's connections it is sent to, and not one longer.
    const [last, ...rest] = connections;
    for (const gone of rest) {
      await gone.stop();
      await sender.invoke("SendUser", user, "those left");
    }
    await cluster.barrier(last);
    assert.deepEqual(last.take(), rest.map(() => ["Message", "those left"]));
  });

  test(`${protocol}: a new connection has no groups`, async (t) => {
    const user = named("again"), group = named("again");
    const member = await connect(t, one, { protocol, user });
    const sender = await connect(t, two, { protocol });
    const before = member.id;
    await member.invoke("JoinGroup", group);
    await member.stop();
    await member.start();
    assert.notEqual(member.id, before);

    await sender.invoke("SendGroup", group, "to the group");
    await sender.invoke("SendClient", before, "to the old connection");
    await sender.invoke("SendUser", user, "to the user");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "to the user"]]);

    await member.invoke("JoinGroup", group);
    await sender.invoke("SendGroup", group, "to the group again");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "to the group again"]]);
  });
}

test("a node subscribes to users and groups exactly while it has members", async (t) => {
  const mine = (channels) => channels.filter((channel) => channel.endsWith("exact"));
  const subscribed = (...expected) => until("the channels are those expected", async () => {
    const channels = mine(await cluster.redis.channels());
    if (JSON.stringify(channels) !== JSON.stringify(expected)) return channels;
  });

  const first = await connect(t, one, { user: "user exact" });
  const second = await connect(t, one);
  await first.invoke("JoinGroup", "group exact");
  await second.invoke("JoinGroup", "group exact");
  assert.deepEqual(mine(await cluster.redis.channels()), ["group:group exact", "user:user exact"]);
  await first.stop();
  await subscribed("group:group exact");
  await second.invoke("LeaveGroup", "group exact");
  await subscribed();
});
