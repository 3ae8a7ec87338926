// Negotiation at one node and connection at another, and tokens that do not fit.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { Balancer } from "./lib/proxy.mjs";
import { openHub, refused, RECORD_SEPARATOR } from "./lib/socket.mjs";
import { userToken } from "./lib/token.mjs";
import { until } from "./lib/wait.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;
const balancer = await Balancer.start(cluster.nodes);
after(() => balancer.stop());

async function negotiate(node, { path = "/hub", version = "1", token, method = "POST" } = {}) {
  const query = version === null ? "" : `?negotiateVersion=${version}`;
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(`${node.url}${path}/negotiate${query}`, { method, headers });
  const body = await response.text();
  return { status: response.status, type: response.headers.get("content-type"), body, ...(response.ok && JSON.parse(body)) };
}

async function whoAmI(socket) {
  socket.send(`{"type":1,"invocationId":"1","target":"WhoAmI","arguments":[]}${RECORD_SEPARATOR}`);
  return JSON.parse(await socket.frame()).result;
}

test("the answer has an id, a token that is another, and transports", async () => {
  const answer = await negotiate(one);
  assert.equal(answer.status, 200);
  assert.equal(answer.type, "application/json");
  assert.equal(answer.negotiateVersion, 1);
  assert.match(answer.connectionId, /^[A-Za-z0-9_-]{22}$/);
  assert.match(answer.connectionToken, /^[A-Za-z0-9_-]+$/);
  assert(!answer.connectionToken.includes(answer.connectionId));
  assert.deepEqual(answer.availableTransports[0], { transport: "WebSockets", transferFormats: ["Text", "Binary"] });
  assert.notEqual((await negotiate(one)).connectionId, answer.connectionId);
});

test("versions", async () => {
  assert.equal((await negotiate(one, { version: "7" })).negotiateVersion, 1);
  for (const version of [null, "0"]) {
    const answer = await negotiate(one, { version });
    assert.equal(answer.negotiateVersion, 0);
    assert(!("connectionToken" in answer));
  }
  assert.equal((await negotiate(one, { version: "one" })).body, '{"error":"The client requested a non-integer protocol version."}');
  assert.equal((await negotiate(one, { version: "-1" })).body, '{"error":"The client requested version \'-1\', but the server does not support this version."}');
});

test("only POST negotiates", async () => {
  for (const method of ["GET", "PUT", "DELETE"]) {
    const { status, body } = await negotiate(one, { method });
    assert.deepEqual({ status, body }, { status: 405, body: "" });
  }
});

for (const version of ["0", "1"]) {
  test(`version ${version}: negotiated at one node, connected to the other`, async (t) => {
    const { connectionId, connectionToken = connectionId } = await negotiate(one, { version, token: userToken("ada") });
    const socket = await openHub(t, two, { query: { id: connectionToken }, token: userToken("ada") });
    assert.deepEqual(await whoAmI(socket), { connectionId, userId: "ada" });

    const sender = await connect(t, one);
    await sender.invoke("SendClient", connectionId, "by the id that was negotiated");
    assert.equal(await socket.frame(), '{"type":1,"target":"Message","arguments":["by the id that was negotiated"]}');
  });
}

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: official clients through a balancer that changes nodes with every connection`, async (t) => {
    const clients = await Promise.all(Array.from({ length: 20 }, (_, i) => connect(t, balancer, { protocol, user: `user ${i}` })));
    for (const [i, client] of clients.entries()) {
      assert.deepEqual(await client.invoke("WhoAmI"), { connectionId: client.id, userId: `user ${i}` });
      await client.invoke("JoinGroup", `balanced ${protocol}`);
    }
    await clients[0].invoke("SendGroup", `balanced ${protocol}`, "hello");
    await cluster.barrier(...clients);
    for (const client of clients) assert.deepEqual(client.take(), [["Message", "hello"]]);
  });

  test(`${protocol}: without negotiation`, async (t) => {
    const client = await connect(t, balancer, { protocol, user: "direct", skipNegotiation: true });
    const { connectionId, userId } = await client.invoke("WhoAmI");
    assert.match(connectionId, /^[A-Za-z0-9_-]{22}$/);
    assert.equal(userId, "direct");
    const sender = await connect(t, two);
    await sender.invoke("SendClient", connectionId, "by id");
    await cluster.barrier(client);
    assert.deepEqual(client.take(), [["Message", "by id"]]);
  });
}

test("a token that is in use is refused with 409, and one that was with 404", async (t) => {
  const { connectionToken } = await negotiate(two);
  const query = { id: connectionToken };
  const socket = await openHub(t, one, { query });
  assert.deepEqual(await refused(one, { query }), { status: 409, body: "" });
  assert((await whoAmI(socket)).connectionId, "the first one goes on");

  socket.close(1000);
  await socket.end();
  await until("the token is unknown", async () => {
    const { status, body } = await refused(one, { query });
    if (status === 409) return "still in use";
    assert.deepEqual({ status, body }, { status: 404, body: "No Connection with that ID" });
  });
});

test("tokens that nobody minted are unknown", async () => {
  const { connectionId, connectionToken } = await negotiate(one);
  const last = connectionToken.at(-1);
  const changed = connectionToken.slice(0, -1) + (last === "A" ? "Q" : "A");
  for (const id of ["nonsense", connectionId, changed, connectionToken.slice(4), `${connectionToken}AAAA`]) {
    assert.deepEqual(await refused(one, { query: { id } }), { status: 404, body: "No Connection with that ID" }, id);
  }
});

test("a token of version 0 is none of version 1", async () => {
  const { connectionId } = await negotiate(one, { version: "0" });
  for (const id of [connectionId.slice(2), connectionId.toLowerCase()]) {
    assert.equal((await refused(one, { query: { id } })).status, 404);
  }
});

test("a token of one hub is unknown to another", async () => {
  const { connectionToken: id } = await negotiate(one, { path: "/chat" });
  for (const path of ["/hub", "/secure", "/bench"]) {
    const answer = await refused(one, { path, query: { id }, token: path === "/secure" ? userToken("") : undefined });
    assert.deepEqual(answer, { status: 404, body: "No Connection with that ID" });
  }
});

test("a token used by another user is refused with 403", async (t) => {
  const { connectionToken: id } = await negotiate(one, { token: userToken("ada") });
  for (const other of [userToken("ben"), userToken("Ada"), undefined]) {
    assert.deepEqual(await refused(two, { query: { id }, token: other }), { status: 403, body: "" });
  }
  const socket = await openHub(t, two, { query: { id }, token: userToken("ada") });
  assert.equal((await whoAmI(socket)).userId, "ada");

  const anonymous = await negotiate(one);
  assert.equal((await refused(two, { query: { id: anonymous.connectionToken }, token: userToken("ada") })).status, 403);
});
