// Clients that are silent, and tokens that run out. The nodes have short time-outs here,
// so that the tests need not wait for the usual ones.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { open, openHub, RECORD_SEPARATOR } from "./lib/socket.mjs";
import { token } from "./lib/token.mjs";

const PING = `{"type":6}${RECORD_SEPARATOR}`;

const cluster = await startCluster({
  nodes: 1,
  env: { HANDSHAKE_TIMEOUT: "500ms", CLIENT_TIMEOUT: "1s", KEEP_ALIVE: "300ms", AUTH_EXPIRY: "1", MAX_MESSAGE: "1000", DISCONNECT_TIMEOUT: "300ms" },
});
const [node] = cluster.nodes;

test("no handshake", async (t) => {
  const socket = await open(t, node);
  assert.deepEqual(await socket.end(), { code: 1000, frames: ['{"error":"Handshake was canceled."}'] });
});

test("half a handshake", async (t) => {
  const socket = await open(t, node);
  socket.send('{"protocol":');
  assert.deepEqual(await socket.end(), { code: 1000, frames: ['{"error":"Handshake was canceled."}'] });
});

test("a client that has pinged once and is silent is closed; one that never pings is not", async (t) => {
  const silent = await openHub(t, node);
  const pinged = await openHub(t, node);
  const official = await connect(t, node, { keepAlive: 200 });
  pinged.send(PING);
  assert.deepEqual(await pinged.end(), { code: 1000, frames: ['{"type":7,"error":"Connection closed with an error.","allowReconnect":true}'] });
  silent.send(`{"type":1,"invocationId":"1","target":"Echo","arguments":["still here"]}${RECORD_SEPARATOR}`);
  assert.equal(await silent.frame(), '{"type":3,"invocationId":"1","result":"still here"}');
  assert.equal(await official.invoke("Echo", "it pings"), "it pings");
});

test("the server pings", async (t) => {
  const socket = await openHub(t, node);
  for (let i = 0; i < 3; i++) await socket.ping();
});

test("a token that runs out ends connections of /secure, and not of /hub", async (t) => {
  // exp has whole seconds: this leaves the client between one and two.
  const bearer = token({ sub: "ada", exp: Math.floor(Date.now() / 1000) + 2 });
  const secure = await openHub(t, node, { path: "/secure", token: bearer });
  const open = await openHub(t, node, { path: "/hub", token: bearer });
  assert.deepEqual(await secure.end(), { code: 1000, frames: ['{"type":7,"allowReconnect":true}'] });
  open.send(`{"type":1,"invocationId":"1","target":"Claim","arguments":["sub"]}${RECORD_SEPARATOR}`);
  assert.equal(await open.frame(), '{"type":3,"invocationId":"1","result":"ada"}');
});

test("the limit for messages", async (t) => {
  const client = await connect(t, node);
  assert.equal((await client.invoke("Echo", "x".repeat(900))).length, 900);
  await assert.rejects(client.invoke("Echo", "x".repeat(1000)), { message: "Server returned an error on close: Connection closed with an error." });
});
