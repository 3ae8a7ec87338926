// A node is drained: its stateful connections go on elsewhere, the others reconnect.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { Cutter } from "./lib/cutter.mjs";
import { rounds, settled, until } from "./lib/wait.mjs";

const ROUNDS = 100, CLIENTS = 6;

const cluster = await startCluster({ nodes: 3, env: { DRAIN_DELAY: "0s", DRAIN_DURATION: "300ms" } });
const balancer = await Cutter.start(cluster.nodes);
after(() => balancer.stop());

const breathe = () => new Promise((resolve) => setTimeout(resolve, 1));
const sequence = (name, count) => Array.from({ length: count }, (_, i) => `${name} ${i}`);

/** A stateful client that counts up to witnesses for as long as it runs. */
class Subject {
  sent = 0;
  reconnects = 0;
  #running = true;

  static async join(t, node, name, protocol) {
    const subject = new Subject();
    subject.name = name;
    balancer.next = node; // the connection's home
    subject.client = await connect(t, balancer, { protocol, user: name, stateful: true, reconnect: [0, 50, 50, 50] });
    balancer.next = undefined;
    subject.id = subject.client.id;
    subject.client.onReconnecting(() => subject.reconnects++);
    await subject.client.invoke("JoinGroup", name);
    return subject;
  }

  async send(witnesses) {
    while (this.#running) {
      await this.client.send("SendGroup", witnesses, `${this.id} ${this.sent++}`);
      await breathe();
    }
  }

  /** Joins groups and leaves them, which is never refused. */
  async wander() {
    while (this.#running) {
      await this.client.invoke("JoinGroup", `aside of ${this.name}`);
      await this.client.invoke("LeaveGroup", `aside of ${this.name}`);
    }
  }

  stop() {
    this.#running = false;
  }
}

test(`${rounds(ROUNDS)} drains under traffic both ways`, async (t) => {
  for (let round = 0; round < rounds(ROUNDS); round++) {
    const [leaving, ...staying] = [...cluster.nodes.slice(round % 3), ...cluster.nodes.slice(0, round % 3)];
    const subjects = [];
    for (let i = 0; i < CLIENTS; i++) {
      subjects.push(await Subject.join(t, leaving, `round ${round} client ${i}`, Object.keys(protocols)[i % 2]));
    }
    const plain = await connect(t, leaving);
    const witnesses = `witnesses ${round}`;
    const witness = await connect(t, staying[0]);
    await witness.invoke("JoinGroup", witnesses);
    const driver = await connect(t, staying[1]);

    let driving = true, driven = 0;
    const drive = async () => {
      for (; driving; driven++) {
        for (const { name } of subjects) {
          await driver.send(...(driven % 2 ? ["SendGroup", name] : ["SendUser", name]), `down ${driven}`);
        }
        await driver.invoke("Nothing");
      }
    };
    const work = [drive(), ...subjects.flatMap((subject) => [subject.send(witnesses), subject.wander()])];
    await until("traffic flows", () => subjects.some(({ client }) => client.pending < 5) || undefined);

    await leaving.terminate();

    const [then, sent] = [driven, subjects.map((subject) => subject.sent)];
    await until("traffic goes on", () => driven < then + 5 || subjects.some((subject, i) => subject.sent < sent[i] + 5) || undefined);
    driving = false;
    for (const subject of subjects) subject.stop();
    await settled("the traffic stops", Promise.all(work));
    for (const subject of subjects) await subject.client.invoke("SendGroup", witnesses, `${subject.id} ${subject.sent++}`);
    await cluster.barrier(witness, ...subjects.map(({ client }) => client));

    const seen = witness.take().map(([, text]) => text);
    for (const { name, id, client, reconnects, sent } of subjects) {
      assert.deepEqual({ id: client.id, reconnects }, { id, reconnects: 0 }, `${name} is still who it was`);
      assert.deepEqual(client.take().map(([, text]) => text), sequence("down", driven), `${name} received`);
      assert.deepEqual(seen.filter((text) => text.startsWith(`${id} `)), sequence(id, sent), `${name} sent`);
    }
    assert.equal(await plain.closed, undefined, "who did not ask for stateful reconnect is closed in order");
    await Promise.all([...subjects.map(({ client }) => client), witness, driver].map((client) => client.stop()));
    await leaving.restart();
  }
});
