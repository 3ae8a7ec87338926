// Redis goes away in the middle, and comes back.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { until } from "./lib/wait.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

const failure = (method) => ({ message: `An unexpected error occurred invoking '${method}' on the server.` });

/** Waits until sends from every node reach every one of the clients. */
async function recovered(...clients) {
  const probes = await Promise.all(cluster.nodes.map((node) => connect(undefined, node)));
  for (const [i, probe] of probes.entries()) {
    let n = 0;
    await until("what is sent arrives", async () => {
      const text = `probe ${i} ${n++}`; // a new one each time: it may go out in spite of an error
      await probe.invoke("SendAll", text);
      const heard = (client) => client.waitFor("a probe arrives", (log) => log.some(([, arrived]) => arrived === text));
      if (!(await arrivesSoon(Promise.all(clients.map(heard))))) return `${text} went into the gap`;
    });
  }
  await Promise.all(probes.map((probe) => probe.stop()));
  for (const client of clients) {
    const probes = client.take().map(([, text]) => text);
    assert.equal(new Set(probes).size, probes.length, `received more than once: ${probes}`);
    for (const text of probes) assert.match(text, /^probe /);
  }
}

/** Says whether a message that went out is there in a moment; if not, it went into the gap. */
async function arrivesSoon(arrival) {
  arrival.catch(() => {}); // at its own deadline, long after
  let timer;
  const moment = new Promise((resolve) => {
    timer = setTimeout(resolve, 500, false);
  });
  const arrived = await Promise.race([arrival.then(() => true), moment]);
  clearTimeout(timer);
  return arrived;
}

test("Redis restarts under a working cluster", async (t) => {
  const ada = await connect(t, one, { user: "ada" });
  const ben = await connect(t, two, { user: "ben", protocol: "messagepack" });
  const cyn = await connect(t, two, { user: "cyn" });
  const clients = [ada, ben, cyn];
  let newcomer;
  for (const client of clients) await client.invoke("JoinGroup", "before");
  await cyn.invoke("JoinGroup", "left meanwhile");

  await t.test("before, everything works", async () => {
    await ada.invoke("SendGroup", "before", "hello");
    await cluster.barrier(...clients);
    assert.deepEqual(clients.map((c) => c.take()), clients.map(() => [["Message", "hello"]]));
  });

  await cluster.redis.kill();

  await t.test("while it is away senders get errors", async () => {
    for (const sender of clients) {
      for (const [method, ...args] of [["SendGroup", "before"], ["SendUser", "ada"], ["SendAll"], ["SendClient", "on another node"]]) {
        await assert.rejects(sender.invoke(method, ...args, "lost"), failure(method));
      }
    }
  });

  await t.test("while it is away nobody can join, and anybody can leave", async () => {
    await assert.rejects(ben.invoke("JoinGroup", "refused"), failure("JoinGroup"));
    await cyn.invoke("LeaveGroup", "left meanwhile");
  });

  await t.test("while it is away connections stay, and what needs no other node works", async () => {
    for (const client of clients) {
      assert.equal(await client.invoke("Echo", "still here"), "still here");
      await client.invoke("SendCaller", "to myself");
      await client.invoke("SendClient", client.id, "by my id");
      assert.deepEqual(client.take(), [["Message", "to myself"], ["Message", "by my id"]]);
    }
  });

  await t.test("while it is away new connections are taken", async () => {
    newcomer = await connect(t, two, { user: "newcomer" });
    assert.equal(await newcomer.invoke("Echo", "hello"), "hello");
  });

  await cluster.redis.restart();
  clients.push(newcomer);
  await recovered(...clients);

  await t.test("afterwards what was joined before is in force, and what was refused is not", async () => {
    for (const sender of [ada, ben]) {
      await sender.invoke("SendGroup", "before", "before");
      await sender.invoke("SendGroup", "refused", "never");
      await sender.invoke("SendGroup", "left meanwhile", "never");
      await sender.invoke("SendUser", "newcomer", "welcome");
      await sender.invoke("SendUser", "ben", "welcome back");
      await sender.invoke("SendClient", cyn.id, "by id");
    }
    await cluster.barrier(...clients);
    const twice = (...texts) => [...texts, ...texts].map((text) => ["Message", text]);
    assert.deepEqual(ada.take(), twice("before"));
    assert.deepEqual(ben.take(), twice("before", "welcome back"));
    assert.deepEqual(newcomer.take(), twice("welcome"));
    // By id comes ben's way directly, since ben is on the same node.
    assert.deepEqual(cyn.take().sort(), twice("before", "by id").sort());
  });

  await t.test("afterwards all can join and leave", async () => {
    for (const client of clients) await client.invoke("JoinGroup", "after");
    await ada.invoke("SendGroup", "after", "in");
    await cluster.barrier(...clients);
    for (const client of clients) await client.invoke("LeaveGroup", "after");
    await ada.invoke("SendGroup", "after", "out");
    await cluster.barrier(...clients);
    assert.deepEqual(clients.map((c) => c.take()), clients.map(() => [["Message", "in"]]));
  });
});

test("Redis restarts again and again under traffic", async (t) => {
  const sender = await connect(t, one);
  const member = await connect(t, two);
  await member.invoke("JoinGroup", "traffic");
  let sent = 0, running = true;
  const outcomes = new Map(); // text to whether the sender was told that it went out
  t.after(() => (running = false));
  const traffic = (async () => {
    for (; running && sender.connected; sent++) {
      const text = `${sent}`;
      outcomes.set(text, await sender.invoke("SendGroup", "traffic", text).then(() => true, () => false));
    }
  })();
  const progress = async (ok) => {
    const from = sent;
    await until(`a send ${ok ? "succeeds" : "fails"}`, () => {
      for (let i = from; i < sent; i++) if (outcomes.get(`${i}`) === ok) return undefined;
      return `of ${sent - from} none did`;
    });
  };
  for (let round = 0; round < 3; round++) {
    await progress(true);
    await cluster.redis.kill();
    await progress(false);
    await cluster.redis.restart();
    await progress(true);
  }
  running = false;
  await traffic;
  assert(sender.connected && member.connected, "connections outlive Redis");

  // None twice, none out of order, and none that nobody sent; those sent into a gap are lost.
  const numbers = () => member.take().map(([, text]) => Number(text));
  await until("the group is back", async () => {
    await sender.invoke("SendGroup", "traffic", `${sent++}`);
    if (member.pending === 0) return "nothing has arrived";
    const log = numbers();
    for (let i = 1; i < log.length; i++) assert(log[i - 1] < log[i], `received ${log[i]} after ${log[i - 1]}`);
    if (log.at(-1) !== sent - 1) return `received ${log.at(-1)} of ${sent - 1}`;
  });
});
