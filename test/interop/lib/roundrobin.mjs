// An HTTP balancer that keeps nobody with a node.

import http from "node:http";
import net from "node:net";

/**
 * Passes each HTTP request on by itself, WebSockets' included: one after the other to the
 * nodes in turn, and those of one connection, told by the id in the query, each to another
 * node than the one before. It tries no second node, and changes nothing but what is
 * between it and its neighbours.
 */
export class RoundRobin {
  /** By the id in the query: the nodes that its requests went to, in order. */
  requests = new Map();

  #nodes;
  #next = 0;
  #server;
  #sockets = new Set();

  static async start(nodes) {
    const balancer = new RoundRobin();
    balancer.#nodes = nodes;
    await balancer.#listen();
    return balancer;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #listen() {
    this.#server = http.createServer({ noDelay: true }, (request, response) => this.#pass(request, response));
    this.#server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    this.#server.on("connection", (socket) => this.#track(socket));
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.port = this.#server.address().port;
  }

  #track(socket) {
    this.#sockets.add(socket);
    socket.on("error", () => {}); // the other side is told by the close
    socket.on("close", () => this.#sockets.delete(socket));
    return socket;
  }

  /** The node whose turn it is. */
  #turn({ url }) {
    const id = new URL(url, this.url).searchParams.get("id");
    if (id === null) return this.#nodes[this.#next++ % this.#nodes.length];
    const before = this.requests.get(id) ?? [];
    this.requests.set(id, before);
    const node = before.length > 0
      ? this.#nodes[(this.#nodes.indexOf(before.at(-1)) + 1) % this.#nodes.length]
      : this.#nodes[this.#next++ % this.#nodes.length];
    before.push(node);
    return node;
  }

  #pass(request, response) {
    const upstream = this.#ask(request);
    upstream.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders);
      response.flushHeaders();
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    upstream.on("error", () => {
      if (response.headersSent) response.destroy();
      else response.writeHead(502).end();
    });
    response.on("close", () => upstream.destroy());
    request.pipe(upstream);
  }

  #upgrade(request, socket, head) {
    const upstream = this.#ask(request);
    const answered = ({ httpVersion, statusCode, statusMessage, rawHeaders }) => {
      let text = `HTTP/${httpVersion} ${statusCode} ${statusMessage}\r\n`;
      for (let i = 0; i < rawHeaders.length; i += 2) text += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`;
      socket.write(`${text}\r\n`, "latin1");
    };
    upstream.on("upgrade", (answer, node, first) => {
      this.#track(node);
      answered(answer);
      socket.write(first);
      node.write(head);
      for (const [from, to] of [[socket, node], [node, socket]]) {
        from.pipe(to);
        from.on("close", (failed) => (failed ? to.destroy() : to.end()));
      }
    });
    upstream.on("response", (answer) => { // refused
      answered(answer);
      answer.pipe(socket);
    });
    upstream.on("error", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
    upstream.end();
  }

  /** Begins the same request to the node whose turn it is, over a socket of its own. */
  #ask(request) {
    const upstream = http.request({
      port: this.#turn(request).port,
      method: request.method,
      path: request.url,
      headers: request.rawHeaders,
      setDefaultHeaders: false,
      createConnection: (options) => this.#track(net.connect({ ...options, host: "127.0.0.1", noDelay: true })),
    });
    return upstream;
  }
}
