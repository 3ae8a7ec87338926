// A node is killed under traffic, behind a balancer.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { Balancer } from "./lib/proxy.mjs";
import { rounds, settled, until } from "./lib/wait.mjs";

const cluster = await startCluster({ nodes: 3 });
const balancer = await Balancer.start(cluster.nodes);
after(() => balancer.stop());

const GROUP = "traffic";
const RECONNECT = [0, ...Array.from({ length: 600 }, () => 50)];

/** A client that is in the group, sends numbered messages to it, and comes back when cut. */
class Participant {
  sent = 0;
  errors = [];
  cuts = 0;
  rejoined = 0;
  #sending;
  #running = true;

  static async join(t, name, protocol) {
    const p = new Participant();
    p.name = name;
    p.client = await connect(t, balancer, { protocol, user: name, skipNegotiation: true, reconnect: RECONNECT });
    p.client.onReconnecting(() => p.cuts++);
    p.client.onReconnected(async () => {
      await p.client.invoke("JoinGroup", GROUP);
      p.rejoined++;
    });
    await p.client.invoke("JoinGroup", GROUP);
    return p;
  }

  start() {
    this.#sending = this.#send();
  }

  async #send() {
    while (this.#running) {
      try {
        // No number is used twice: one whose sender was told of an error may have arrived.
        await this.client.invoke("SendGroup", GROUP, `${this.name} ${this.sent++}`);
      } catch (error) {
        this.errors.push(error.message);
        await until("the client is back", () => (this.client.connected ? undefined : "not connected"));
      }
    }
  }

  async stop() {
    this.#running = false;
    await settled(`${this.name} has stopped`, this.#sending);
  }
}

test("a node of three is killed", async (t) => {
  const participants = [];
  for (let i = 0; i < 9; i++) {
    participants.push(await Participant.join(t, `p${i}`, Object.keys(protocols)[i % 2]));
  }
  for (const p of participants) p.start();
  const progress = async (who, messages) => {
    const from = who.map((p) => p.sent);
    await until(`everybody has sent ${messages} more`, () => {
      const behind = who.filter((p, i) => p.sent - from[i] < messages);
      if (behind.length > 0) return `${behind.map((p) => `${p.name}: ${p.sent}`)} have not`;
    });
  };
  await progress(participants, rounds(200));
  await cluster.nodes[2].kill();
  await until("the clients of the node have joined again", () => {
    const cut = participants.filter((p) => p.cuts > 0);
    if (cut.length < 3) return `${cut.length} are cut`;
    const waiting = cut.filter((p) => p.rejoined < p.cuts);
    if (waiting.length > 0) return `${waiting.map((p) => p.name)} have not`;
  });
  await progress(participants, rounds(200));
  await Promise.all(participants.map((p) => p.stop()));
  await cluster.barrier(...participants.map((p) => p.client));

  const victims = participants.filter((p) => p.cuts > 0);
  const survivors = participants.filter((p) => p.cuts === 0);
  assert.equal(victims.length, 3, "the balancer spread the clients evenly");
  for (const p of survivors) assert.deepEqual(p.errors, [], `${p.name} was told of errors`);

  // Nobody has anything twice or out of order. Survivors have all that survivors sent.
  for (const receiver of participants) {
    const log = receiver.client.take().map(([, text]) => text);
    for (const sender of participants) {
      const numbers = log.filter((text) => text.startsWith(`${sender.name} `)).map((text) => Number(text.split(" ")[1]));
      for (let i = 1; i < numbers.length; i++) {
        assert(numbers[i - 1] < numbers[i], `${receiver.name} received ${numbers[i]} of ${sender.name} after ${numbers[i - 1]}`);
      }
      if (survivors.includes(receiver) && survivors.includes(sender)) {
        assert.equal(numbers.length, sender.sent, `${receiver.name} received ${numbers.length} of ${sender.sent} of ${sender.name}`);
      }
    }
  }

  // Those who came back are as good as before.
  const [sender] = victims;
  await sender.client.invoke("SendGroup", GROUP, "after");
  for (const p of participants) await sender.client.invoke("SendUser", p.name, "to each");
  await cluster.barrier(...participants.map((p) => p.client));
  for (const p of participants) assert.deepEqual(p.client.take(), [["Message", "after"], ["Message", "to each"]]);
});

test("a node that is back is one of the cluster again", async (t) => {
  const member = await connect(t, cluster.nodes[0]);
  await member.invoke("JoinGroup", "back");
  await cluster.nodes[2].restart();
  const sender = await connect(t, cluster.nodes[2]);
  await sender.invoke("SendGroup", "back", "hello");
  await sender.invoke("JoinGroup", "back");
  await member.invoke("SendGroup", "back", "welcome");
  await cluster.barrier(member, sender);
  assert.deepEqual(member.take(), [["Message", "hello"], ["Message", "welcome"]]);
  assert.deepEqual(sender.take(), [["Message", "welcome"]]);
});
