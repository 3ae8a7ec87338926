// Two nodes behind a balancer, for pages that somebody else serves.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { Child } from "../../interop/lib/process.mjs";
import { Redis } from "../../interop/lib/redis.mjs";
import { RoundRobin } from "../../interop/lib/roundrobin.mjs";
import { SECRET, userToken } from "../../interop/lib/token.mjs";
import { until } from "../../interop/lib/wait.mjs";

const binary = process.env.NODE_BINARY;
assert(binary, "NODE_BINARY must be the path of a node's binary (see README.md)");

/**
 * Starts nodes that take the pages of an origin, and a balancer that switches node at
 * every request. They end with the calling test file, which fails if they end badly or
 * have written a token.
 */
export async function startNodes(origin) {
  const redis = await Redis.start();
  const nodes = [1, 2].map((n) => new Child(`node ${n}`, binary, [
    "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--admin-listen", "", "--redis", redis.url, "--jwt-secret", SECRET,
    "--allowed-origins", origin, "--drain-delay", "0s", "--drain-duration", "0s", "--log-level", "debug",
  ]));
  after(async () => {
    for (const node of nodes) {
      const { code, signal } = await node.end("SIGTERM");
      assert.deepEqual({ code, signal }, { code: 0, signal: null }, `${node.name} ended badly:\n${node.output}`);
      assert.doesNotMatch(node.output, /access_token|Bearer |[?&]id=/, `${node.name} has written a query or a header`);
    }
    await redis.stop();
  });
  const urls = await Promise.all(nodes.map(async (node) => (await node.says(/^listening on (http:\/\/\S+)$/m))[1]));
  for (const [from, home] of [urls, urls.toReversed()]) {
    await until(`${from} passes on what is for ${home}`, () => passesOn(from, home));
  }
  const balancer = await RoundRobin.start(urls.map((url) => ({ port: Number(new URL(url).port) })));
  after(() => balancer.stop());
  return balancer;
}

/** Returns nothing once a node passes on what is for a connection of the other one. */
async function passesOn(from, home) {
  const ask = (node, path, init) => fetch(`${node}/chat${path}`, { ...init, headers: { Authorization: `Bearer ${userToken("nobody")}` } });
  const negotiation = await ask(from, "/negotiate?negotiateVersion=1", { method: "POST" });
  const { connectionToken } = await negotiation.json();
  const path = `?id=${encodeURIComponent(connectionToken)}`;
  const first = await ask(home, path); // is answered at once, and makes the home
  if (first.status !== 200) return `the first poll is answered ${first.status}`;
  const ended = await ask(from, path, { method: "DELETE" });
  return ended.status === 202 ? undefined : `what is to be passed on is answered ${ended.status}`;
}

/** What a page needs of the official client: name in the URL, file. */
const files = new Map([
  ["/signalr.js", "../../../internal/demo/page/signalr/signalr.min.js"],
  ["/msgpack.js", "../../interop/node_modules/@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.min.js"],
  ["/talk.js", "./talk.js"],
].map(([name, file]) => [name, fileURLToPath(new URL(file, import.meta.url))]));

const page = `<!doctype html><meta charset="utf-8"><title>Another origin</title><link rel="icon" href="data:,">
${[...files.keys()].map((name) => `<script src="${name}"></script>`).join("\n")}`;

/** Serves a page of another origin until the calling test file ends; returns its URL. */
export async function startPage() {
  const server = http.createServer(async (request, response) => {
    if (request.url === "/") return response.setHeader("Content-Type", "text/html").end(page);
    const file = files.get(request.url);
    if (!file) return response.writeHead(404).end();
    return response.setHeader("Content-Type", "text/javascript").end(await readFile(file));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  // By another name than the nodes', so that it is another site as well.
  return `http://localhost:${server.address().port}`;
}
