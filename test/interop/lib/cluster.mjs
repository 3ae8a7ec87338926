// A cluster of test hubs: real processes and a real Redis.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after } from "node:test";

import { connect } from "./client.mjs";
import { Child, freePort } from "./process.mjs";
import { DelayingProxy } from "./proxy.mjs";
import { Redis } from "./redis.mjs";
import { SECRET } from "./token.mjs";
import { witnesses } from "./wait.mjs";

/** The programs that nodes may run: where the binary is, and a hub with SendAll. */
export const testhub = { variable: "TESTHUB", path: "/hub" };
export const opshub = { variable: "OPSHUB", path: "/ops" };

/** What nodes, and those that publish as they do, sign with. */
export const CLUSTER_KEY = "interop-cluster-key-0123456789-0123";

/** What no node may write, whatever a test does to it. */
const disgrace = /WARNING: DATA RACE|^panic: |^fatal error: |panic in hub/m;

/**
 * Starts a cluster that ends with the calling test file. `env` are settings of the
 * nodes, which run `program`. With `delaySubscriptions` they reach Redis through a
 * DelayingProxy.
 */
export async function startCluster({ program = testhub, nodes = 2, env = {}, delaySubscriptions = false } = {}) {
  const binary = process.env[program.variable];
  assert(binary, `${program.variable} must be the path of a binary (see README.md)`);
  const cluster = new Cluster();
  cluster.path = program.path;
  after(() => cluster.stop());
  cluster.redis = await Redis.start();
  if (delaySubscriptions) cluster.proxy = await DelayingProxy.start(cluster.redis.port);
  const redis = (cluster.proxy ?? cluster.redis).url;
  const settings = { REDIS: redis, JWT_SECRET: SECRET, CLUSTER_KEY, DRAIN_DURATION: "100ms", GORACE: "atexit_sleep_ms=50", ...env };
  cluster.nodes = await Promise.all(Array.from({ length: nodes }, (_, i) => Node.start(`node ${i + 1}`, binary, settings)));
  return cluster;
}

class Cluster {
  nodes = [];
  redis;
  path; // of the hub that markers are sent by
  proxy; // a DelayingProxy, if one was asked for
  #markers = new Map(); // one client for each node, who sends the markers

  /**
   * Returns when everything that was sent before, from any node that runs, has arrived
   * at each of the clients, if it ever will: what one node sends arrives in the order in
   * which it was sent, and this sends a marker from every node to everybody.
   */
  async barrier(...clients) {
    const markers = await Promise.all(this.nodes.filter((node) => node.running).map(async (node) => {
      const marker = `marker ${randomUUID()}`;
      const sender = await this.#markerSender(node);
      await sender.invoke("SendAll", marker);
      return marker;
    }));
    await Promise.all(clients.map((client) => client.passed(markers)));
  }

  async #markerSender(node) {
    if (!this.#markers.get(node)?.connected) this.#markers.set(node, await connect(undefined, node, { path: this.path }));
    return this.#markers.get(node);
  }

  async stop() {
    await Promise.all([...this.#markers.values()].map((client) => client.stop()));
    const endings = await Promise.allSettled(this.nodes.map((node) => node.terminate()));
    await this.proxy?.stop();
    await this.redis?.stop();
    for (const ending of endings) if (ending.status === "rejected") throw ending.reason;
  }
}

/** One node, at one address over all its restarts. */
class Node {
  #child;
  #binary;
  #settings;
  #witness = () => `--- last words of ${this.name}:\n${this.#child.output.split("\n").slice(-21).join("\n")}`;
  running = false;

  static async start(name, binary, settings) {
    const node = new Node();
    node.name = name;
    node.#binary = binary;
    node.#settings = settings;
    for (let attempt = 1; ; attempt++) {
      node.port = await freePort();
      try {
        await node.restart();
        return node;
      } catch (error) {
        if (attempt === 5 || !/in use/.test(error.message)) throw error;
      }
    }
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async restart() {
    this.#child = new Child(this.name, this.#binary, [], { ...this.#settings, LISTEN: `127.0.0.1:${this.port}` });
    const [, address] = await this.#child.says(/^listening on http:\/\/(\S+)$/m);
    assert.equal(address, `127.0.0.1:${this.port}`);
    this.running = true;
    witnesses.add(this.#witness);
  }

  /** Stops it where it is, for the duration of an action: its connections stay open. */
  async frozenDuring(action) {
    this.#child.signal("SIGSTOP");
    try {
      return await action();
    } finally {
      this.#child.signal("SIGCONT");
    }
  }

  /** Ends it without warning. */
  async kill() {
    this.#leave();
    await this.#child.end("SIGKILL");
    assert.doesNotMatch(this.#child.output, disgrace);
  }

  /** Ends it in order, and fails if anything was wrong with it in all its life. */
  async terminate() {
    if (!this.running) return;
    this.#leave();
    const { code, signal } = await this.#child.end("SIGTERM");
    assert.doesNotMatch(this.#child.output, disgrace);
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `${this.name} ended badly:\n${this.#child.output}`);
  }

  #leave() {
    this.running = false;
    witnesses.delete(this.#witness);
  }
}
