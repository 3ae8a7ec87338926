// A balancer that cuts WebSockets.

import net from "node:net";

import { bind, Proxy } from "./proxy.mjs";

/** How much of a socket's life passes before it is cut, at most. */
const MAX_BYTES = 1_000, MAX_MS = 50;

const shuffled = (items) => items.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item);

/**
 * Joins each TCP connection to a node that it picks by chance among those that listen,
 * or to the one that `next` names. While it is armed it cuts every WebSocket: after some
 * bytes in either direction (in the middle of a frame, as a rule, or before the first
 * one has passed), or after some time (between frames, as a rule). The first socket of
 * a connection is left alone for a while, so that handshakes go through. A few of those
 * that follow are cut before they are open, which is the end of the connection: clients
 * try once.
 */
export class Cutter extends Proxy {
  /** How many WebSockets have been cut. */
  cuts = 0;
  /** How many of them were not open yet. */
  refusals = 0;
  /** The node to which every connection goes; undefined: one by chance. */
  next;
  /** How many WebSockets that are not the first of their connection went to each node. */
  resumedAt = new Map();

  #nodes;
  #known = new Set(); // the ids of connections that had a socket
  #armed = false;
  #open = new Set();

  static async start(nodes) {
    const cutter = new Cutter();
    cutter.#nodes = nodes;
    await cutter.listen((client) => cutter.#join(client));
    return cutter;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Begins to cut: the sockets that there are, and all that follow. */
  arm() {
    this.#armed = true;
    for (const socket of this.#open) socket.arm();
  }

  /** Lets be what is open and what follows. */
  disarm() {
    this.#armed = false;
    for (const socket of this.#open) socket.disarm();
  }

  #join(client, nodes = this.next ? [this.next] : shuffled(this.#nodes)) {
    const [node, ...others] = nodes;
    if (!node) {
      client.destroy();
      return;
    }
    const upstream = this.track(net.connect({ port: node.port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
    const refused = () => this.#join(client, others);
    upstream.once("error", refused);
    upstream.once("connect", () => {
      upstream.off("error", refused);
      bind(client, upstream);
      client.once("data", (head) => {
        const request = /^GET (\S+) HTTP\/1\.1\r\n[^]*^upgrade: websocket\r$/im.exec(head.toString("latin1"));
        if (request) {
          this.#watch(new URL(request[1], this.url).searchParams.get("id"), node, client, upstream);
        } else {
          client.pipe(upstream);
          upstream.pipe(client);
        }
        upstream.write(head);
      });
    });
  }

  #watch(id, node, client, upstream) {
    const first = !this.#known.has(id);
    this.#known.add(id);
    if (!first) this.resumedAt.set(node, (this.resumedAt.get(node) ?? 0) + 1);

    const socket = { down: Infinity, up: Infinity, timer: undefined, upgraded: false, armed: false, done: false };
    const cut = () => {
      if (socket.done) return;
      socket.done = true;
      this.cuts++;
      const how = Math.random();
      for (const side of [client, upstream]) {
        if (how < 0.5) side.resetAndDestroy();
        else side.destroy();
      }
    };
    socket.arm = () => {
      if (socket.armed || !socket.upgraded) return;
      socket.armed = true;
      const choice = Math.random();
      if (choice < 0.1) socket.down = 0;
      else if (choice < 0.4) socket.down = Math.floor(Math.random() * MAX_BYTES);
      else if (choice < 0.7) socket.up = Math.floor(Math.random() * MAX_BYTES);
      socket.timer = setTimeout(cut, choice < 0.7 ? 4 * MAX_MS : Math.random() * MAX_MS);
      if (socket.down === 0) cut();
    };
    socket.disarm = () => {
      clearTimeout(socket.timer);
      Object.assign(socket, { armed: false, down: Infinity, up: Infinity });
    };
    /** Passes on what may pass; what is cut is cut in the middle. */
    const pass = (direction, chunk, to) => {
      if (socket.done) return;
      const allowed = Math.min(chunk.length, socket[direction]);
      socket[direction] -= allowed;
      if (allowed === chunk.length) {
        to.write(chunk);
        return;
      }
      to.write(chunk.subarray(0, allowed), cut);
    };

    this.#open.add(socket);
    upstream.on("close", () => {
      socket.done = true;
      clearTimeout(socket.timer);
      this.#open.delete(socket);
    });
    upstream.once("data", (head) => {
      if (this.#armed && !first && Math.random() < 0.01) {
        this.refusals++;
        cut();
        return;
      }
      const end = head.indexOf("\r\n\r\n") + 4;
      socket.upgraded = true;
      client.write(head.subarray(0, end));
      if (this.#armed && !first) socket.arm();
      else if (this.#armed) setTimeout(() => this.#armed && socket.arm(), 10 * MAX_MS);
      if (end < head.length) pass("down", head.subarray(end), client);
      upstream.on("data", (chunk) => pass("down", chunk, client));
    });
    client.on("data", (chunk) => pass("up", chunk, upstream));
    client.on("end", () => upstream.end());
    upstream.on("end", () => client.end());
  }
}
