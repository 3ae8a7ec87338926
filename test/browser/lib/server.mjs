// The node that serves the page: a real process.

import assert from "node:assert/strict";
import { after } from "node:test";

import { Child } from "../../interop/lib/process.mjs";

const binary = process.env.NODE_BINARY;
assert(binary, "NODE_BINARY must be the path of a node's binary (see README.md)");

/** Starts a node that ends with the calling test file. */
export async function startServer() {
  const server = new Server();
  await server.start();
  after(() => server.stop());
  return server;
}

/** A node, at one address over all its restarts. */
class Server {
  url;
  #child;

  async start() {
    const address = this.url ? new URL(this.url).host : "127.0.0.1:0";
    this.#child = new Child("node", binary, ["--demo", "--drain-delay", "0s", "--drain-duration", "0s", "--listen", address, "--admin-listen", ""]);
    [, this.url] = await this.#child.says(/^listening on (http:\/\/\S+)$/m);
  }

  /** Ends it in order, and fails if it ends badly. */
  async stop() {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    const { code, signal } = await child.end("SIGTERM");
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `the node ended badly:\n${child.output}`);
  }
}
