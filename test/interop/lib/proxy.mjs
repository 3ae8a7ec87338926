// TCP proxies on loopback.

import net from "node:net";

/** Listens on a free port and joins each connection to one that `dial` returns. */
export class Proxy {
  #server;
  #sockets = new Set();

  async listen(accept) {
    // The sides are closed one by one, as they are at the ends: allowHalfOpen.
    this.#server = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      this.track(client);
      accept(client);
    });
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.port = this.#server.address().port;
  }

  track(socket) {
    this.#sockets.add(socket);
    socket.on("error", () => {}); // a cut is what the other side is told of
    socket.on("close", () => this.#sockets.delete(socket));
    return socket;
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Makes the end of either socket, in order or not, that of the other. */
export function bind(a, b) {
  for (const [from, to] of [[a, b], [b, a]]) {
    from.on("close", (failed) => (failed ? to.destroy() : to.end()));
  }
}

/**
 * Spreads connections over nodes one after the other, and passes over those that do
 * not answer. It knows nothing of HTTP and keeps nobody with a node.
 */
export class Balancer extends Proxy {
  #nodes;
  #next = 0;

  static async start(nodes) {
    const balancer = new Balancer();
    balancer.#nodes = nodes;
    await balancer.listen((client) => balancer.#join(client, nodes.length));
    return balancer;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  #join(client, attempts) {
    if (attempts === 0) {
      client.destroy();
      return;
    }
    const node = this.#nodes[this.#next++ % this.#nodes.length];
    const upstream = this.track(net.connect({ port: node.port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
    const refused = () => this.#join(client, attempts - 1);
    upstream.once("error", refused);
    upstream.once("connect", () => {
      upstream.off("error", refused);
      bind(client, upstream);
      client.pipe(upstream);
      upstream.pipe(client);
    });
  }
}

/** Stands before a node, can stop taking what that sends, and knows what it does not take. */
export class Valve extends Proxy {
  #port;
  #open = true;
  #pipes = new Map(); // from each connection to the node, to that of the client

  static async start(node) {
    const valve = new Valve();
    valve.#port = node.port;
    await valve.listen((client) => valve.#join(client));
    return valve;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** How many bytes the node, and the sockets on the way to it, have no room for. */
  get backlog() {
    return [...this.#pipes.keys()].reduce((sum, upstream) => sum + upstream.writableLength, 0);
  }

  /** Takes nothing from the node until it is opened. */
  shut() {
    this.#open = false;
    for (const [upstream, client] of this.#pipes) upstream.unpipe(client);
  }

  open() {
    this.#open = true;
    for (const [upstream, client] of this.#pipes) upstream.pipe(client);
  }

  #join(client) {
    const upstream = this.track(net.connect({ port: this.#port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
    bind(client, upstream);
    this.#pipes.set(upstream, client);
    upstream.on("close", () => this.#pipes.delete(upstream));
    client.pipe(upstream);
    if (this.#open) upstream.pipe(client);
  }
}

/** How long the delaying proxy holds back what is written to subscribe. */
export const SUBSCRIBE_DELAY_MS = 20;

/**
 * Stands before Redis. What a node writes on a connection on which it has subscribed to
 * anything arrives late, and in order; all else passes at once. So a node that does not
 * wait for its subscriptions to be confirmed is caught.
 */
export class DelayingProxy extends Proxy {
  /** How many writes have been held back. */
  delayed = 0;

  static async start(redisPort) {
    const proxy = new DelayingProxy();
    await proxy.listen((client) => proxy.#join(client, redisPort));
    return proxy;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  #join(client, redisPort) {
    const upstream = this.track(net.connect({ port: redisPort, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
    bind(client, upstream);
    upstream.pipe(client);

    let subscribes = false;
    let tail = Buffer.alloc(0); // a command may be cut in two
    const pass = (action) => {
      if (!subscribes) return action();
      this.delayed++;
      setTimeout(action, SUBSCRIBE_DELAY_MS); // timers of one length run in order
    };
    client.on("data", (chunk) => {
      if (!subscribes) {
        const seen = Buffer.concat([tail, chunk]);
        subscribes = /\r\n(s|p)?subscribe\r\n/i.test(seen.toString("latin1"));
        tail = seen.subarray(-16);
      }
      pass(() => upstream.write(chunk));
    });
    client.on("end", () => pass(() => upstream.end()));
  }
}
