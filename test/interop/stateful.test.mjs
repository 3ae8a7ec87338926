// Stateful reconnect: what loses its network for a moment loses no message.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { Cutter } from "./lib/cutter.mjs";
import { settled, until } from "./lib/wait.mjs";

const CUTS = 1_000, CLIENTS = 16;

/** Delays of automatic reconnect that go on for longer than any test. */
const PERSISTENT = [0, ...Array.from({ length: 600 }, () => 50)];

const cluster = await startCluster({ env: { DISCONNECT_TIMEOUT: "60s" } });

/** Waits for the next turns of the event loop, so that nobody sends without end in one. */
const breathe = () => new Promise((resolve) => setTimeout(resolve, 1));

/**
 * A client behind a cutter that sends numbers to witnesses and gets numbers from a
 * driver, who all are connected to a node directly, and that asks for echoes.
 *
 * A client whose socket is cut while it reconnects gives the connection up, by its own
 * rule, and begins anew with another id. It then takes part no more: it may have
 * resumed the old connection too, and be served by both.
 */
class Subject {
  received; // all, in order, until it began anew
  answers = 0;
  sent = 0;
  #running = true;
  #work;

  static async join(t, cutter, name, protocol) {
    const subject = new Subject();
    subject.name = name;
    subject.client = await connect(t, cutter, { protocol, user: name, stateful: true, reconnect: PERSISTENT });
    subject.id = subject.client.id;
    subject.client.onReconnecting(() => subject.end());
    await subject.client.invoke("JoinGroup", name);
    return subject;
  }

  get beganAnew() {
    return this.client.id !== this.id;
  }

  start(witnesses) {
    this.#work = Promise.all([this.#send(witnesses), this.#ask()]);
  }

  async stop() {
    this.#running = false;
    await settled(`${this.name} has stopped`, this.#work);
  }

  /** Ends what is asserted of what it receives. */
  end() {
    this.#running = false;
    this.received ??= this.client.take().map(([, text]) => text);
  }

  async #send(witnesses) {
    while (this.#running) {
      await this.client.send("SendGroup", witnesses, `${this.id} ${this.sent++}`).catch(() => {});
      await breathe();
    }
  }

  /** Invokes, and takes no answer but the right one. */
  async #ask() {
    for (let i = 0; this.#running; i++) {
      let answer;
      try {
        answer = await this.client.invoke("Echo", `${this.name} ${i}`);
      } catch (error) {
        if (this.#running) throw error;
        return;
      }
      assert.equal(answer, `${this.name} ${i}`);
      this.answers++;
    }
  }
}

const sequence = (name, count) => Array.from({ length: count }, (_, i) => `${name} ${i}`);

for (const where of ["the same node", "either node"]) {
  const cuts = CUTS / 2;

  test(`${cuts} cuts under traffic both ways, reconnecting to ${where}`, async (t) => {
    const cutter = await Cutter.start(cluster.nodes);
    after(() => cutter.stop());
    if (where === "the same node") cutter.next = cluster.nodes[0];

    const names = Array.from({ length: CLIENTS }, (_, i) => `${where} ${i}`);
    const subjects = await Promise.all(names.map((name, i) => Subject.join(t, cutter, name, Object.keys(protocols)[i % 2])));
    const witness = await connect(t, cluster.nodes[1]);
    await witness.invoke("JoinGroup", `witness ${where}`);
    const driver = await connect(t, cluster.nodes[1]);

    let driving = true, driven = 0;
    const drive = async () => {
      for (; driving; driven++) {
        for (const { name } of subjects) {
          await driver.send(...(driven % 2 ? ["SendGroup", name] : ["SendUser", name]), `down ${driven}`);
        }
        await driver.invoke("Nothing");
      }
    };
    const driven_ = drive();
    for (const subject of subjects) subject.start(`witness ${where}`);
    cutter.arm();
    try {
      await until(`${cuts} cuts of open sockets`, () => (cutter.cuts - cutter.refusals < cuts ? `${cutter.cuts} so far` : undefined));
    } finally {
      cutter.disarm();
      driving = false;
    }
    await driven_;
    await Promise.all(subjects.map((subject) => subject.stop()));
    await until("everybody is connected", () => subjects.filter(({ client }) => !client.connected).map(({ name }) => name).join() || undefined);
    const whole = subjects.filter((subject) => !subject.beganAnew);
    // Behind all that each has sent.
    for (const subject of whole) await subject.client.invoke("SendGroup", `witness ${where}`, `${subject.id} ${subject.sent++}`);
    await cluster.barrier(witness, ...whole.map(({ client }) => client));

    const seen = witness.take().map(([, text]) => text);
    for (const subject of subjects) {
      subject.end();
      const own = seen.filter((text) => text.startsWith(`${subject.id} `));
      const complete = whole.includes(subject);
      assert.deepEqual(subject.received, sequence("down", complete ? driven : subject.received.length), `${subject.name} received`);
      assert.deepEqual(own, sequence(subject.id, complete ? subject.sent : own.length), `${subject.name} sent`);
      if (complete) assert(subject.answers > 0, `${subject.name} was answered`);
    }
    t.diagnostic(`${cutter.cuts} cuts, ${cutter.refusals} of them before the socket was open; ${driven} messages to each of ${CLIENTS} clients, ${CLIENTS - whole.length} of which began anew`);
    assert(whole.length > 0, "no client went on to the end");
    assert(CLIENTS - whole.length <= cutter.refusals, "clients began anew that had been let reconnect");
    if (where !== "the same node") {
      for (const node of cluster.nodes) assert(cutter.resumedAt.get(node) > 0, `sockets were resumed at ${node.name}`);
    }
  });
}
