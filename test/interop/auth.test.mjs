// Who a client is, and who is turned away.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, connect } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { openHub, refused } from "./lib/socket.mjs";
import { badTokens, token, userToken } from "./lib/token.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

/** Asks to negotiate; returns the status. */
async function negotiate(node, path, { bearer, query } = {}) {
  const url = new URL(`${node.url}${path}/negotiate?negotiateVersion=1`);
  if (query !== undefined) url.searchParams.set("access_token", query);
  const response = await fetch(url, { method: "POST", headers: bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` } });
  await response.arrayBuffer();
  return response.status;
}

for (const [title, make] of Object.entries(badTokens)) {
  for (const path of ["/hub", "/secure", "/chat"]) {
    test(`a token that is ${title} is refused at ${path}`, async () => {
      const bad = make();
      assert.equal(await negotiate(one, path, { bearer: bad }), 401);
      assert.equal(await negotiate(one, path, { query: bad }), 401);
      assert.equal((await refused(one, { path, token: bad })).status, 401);
      assert.equal((await refused(one, { path, query: { access_token: bad } })).status, 401);
    });
  }

  test(`the official client tells of a token that is ${title}`, async (t) => {
    await assert.rejects(connect(t, one, { token: make() }), /Status code '401'/);
  });
}

test("/secure wants a token for everything", async (t) => {
  assert.equal(await negotiate(one, "/secure"), 401);
  assert.equal((await refused(one, { path: "/secure" })).status, 401);
  await assert.rejects(connect(t, one, { path: "/secure" }), /Status code '401'/);
  await assert.rejects(connect(t, one, { path: "/secure", skipNegotiation: true }));

  assert.equal(await negotiate(one, "/secure", { bearer: userToken("ada") }), 200);
  assert.equal(await negotiate(one, "/secure", { query: userToken("ada") }), 200);
  const client = await connect(t, one, { path: "/secure", user: "ada" });
  assert.deepEqual(await client.invoke("WhoAmI"), { connectionId: client.id, userId: "ada" });
});

test("/secure and /hub are one hub", async (t) => {
  const secure = await connect(t, one, { path: "/secure", user: "ada" });
  const open = await connect(t, two, { path: "/hub", user: "ada" });
  await secure.invoke("JoinGroup", "one hub");
  await open.invoke("JoinGroup", "one hub");
  await open.invoke("SendGroup", "one hub", "to the group");
  await secure.invoke("SendUser", "ada", "to the user");
  await open.invoke("SendClient", secure.id, "by id");
  await cluster.barrier(secure, open);
  assert.deepEqual(secure.take(), [["Message", "to the group"], ["Message", "to the user"], ["Message", "by id"]]);
  assert.deepEqual(open.take(), [["Message", "to the group"], ["Message", "to the user"]]);
});

test("the user is the token's", async (t) => {
  const nameIdentifier = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";
  for (const [claims, userId] of [
    [undefined, null],
    [{ sub: "ada" }, "ada"],
    [{ sub: "" }, null],
    [{}, null],
    [{ [nameIdentifier]: "ben" }, "ben"],
    [{ sub: "ada", [nameIdentifier]: "ben" }, "ben"],
  ]) {
    const client = await connect(t, one, { token: claims && token(claims) });
    assert.deepEqual(await client.invoke("WhoAmI"), { connectionId: client.id, userId });
  }
});

test("a token without an end is good, and one in the query too", async (t) => {
  const client = await connect(t, one, { token: token({ sub: "ada", exp: undefined }) });
  assert.equal((await client.invoke("WhoAmI")).userId, "ada");
  const socket = await openHub(t, one, { path: "/secure", query: { access_token: userToken("ben") } });
  socket.send('{"type":1,"invocationId":"1","target":"Claim","arguments":["sub"]}\x1e');
  assert.equal(await socket.frame(), '{"type":3,"invocationId":"1","result":"ben"}');
});

test("claims are read from the token", async (t) => {
  const client = await connect(t, one, { token: token({ sub: "ada", role: ["admin", "editor"], team: "blue", level: 7 }) });
  for (const [type, value] of [["sub", "ada"], ["role", "admin"], ["team", "blue"], ["level", "7"], ["none", null], ["Team", null]]) {
    assert.equal(await client.invoke("Claim", type), value, type);
  }
  const anonymous = await connect(t, one);
  assert.equal(await anonymous.invoke("Claim", "sub"), null);
});

test("a method for a role is for those who have it", async (t) => {
  for (const role of ["admin", ["editor", "admin"]]) {
    const admin = await connect(t, one, { token: token({ sub: "ada", role }) });
    assert.equal(await admin.invoke("Admin"), "ok");
  }
  for (const claims of [undefined, {}, { role: "editor" }, { role: "Admin" }, { role: [] }, { sub: "admin" }]) {
    const other = await connect(t, one, { token: claims && token(claims) });
    await assert.rejects(other.invoke("admin"), { message: "Failed to invoke 'Admin' because user is unauthorized" });
    assert.equal(await other.invoke("Echo", "goes on"), "goes on");
  }
});

test("a connected handler's error refuses the connection", async (t) => {
  // The client hears of it while it starts or just after.
  const client = new Client(one.url, { user: "reject-me", reconnect: [0, 0, 0] });
  const error = await client.start().then(() => client.closed, (reason) => reason);
  assert.equal(error.message, "Server returned an error on close: Connection closed with an error.");

  const socket = await openHub(t, one, { token: userToken("reject-me") });
  assert.deepEqual(await socket.end(), { code: 1000, frames: ['{"type":7,"error":"Connection closed with an error."}'] });
});
