// Names are taken as they are, whatever is in them, up to a limit.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { rounds } from "./lib/wait.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

const LIMIT_BYTES = 16 * 1024;

// Each is near another that it must not be taken for.
const names = [
  "", " ", "  ", "a", "A", " a", "a ", "a b", "a\tb", "a:b", ":", "user:a", "group:a", "all", "chat/a",
  "*", "a*", "?", "[a]", "[^b]", "\\*", "{a}", "\n", "a\n", "a\r\nb", "\0", "a\0", "a\0b", "\u001e", '"', "'",
  "é", "e\u0301", "ß", "ss", "東京", "👩‍👩‍👧", "%61", "null",
  "x".repeat(8_000), `${"x".repeat(7_999)}y`, "é".repeat(LIMIT_BYTES / 2),
];
const shown = (name) => JSON.stringify(name.length > 20 ? `${name.slice(0, 10)}… ${name.length}` : name);

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: strange group names`, async (t) => {
    const sender = await connect(t, two, { protocol });
    const members = await Promise.all(names.map(() => connect(t, one, { protocol })));
    await Promise.all(members.map((member, i) => member.invoke("JoinGroup", names[i])));
    for (const name of names) await sender.invoke("SendGroup", name, shown(name));
    await cluster.barrier(...members);
    await Promise.all(members.map((member, i) => member.invoke("LeaveGroup", names[i])));
    for (const name of names) await sender.invoke("SendGroup", name, "after all have left");
    await cluster.barrier(...members);
    assert.deepEqual(members.map((member) => member.take()), names.map((name) => [["Message", shown(name)]]));
  });

  test(`${protocol}: strange user ids`, async (t) => {
    // The empty one is no user at all, and whom it would select is nobody.
    const sender = await connect(t, two, { protocol });
    const users = await Promise.all(names.map((user) => connect(t, one, { protocol, user })));
    for (const [i, user] of users.entries()) {
      assert.equal((await user.invoke("WhoAmI")).userId, names[i] === "" ? null : names[i]);
    }
    for (const name of names) await sender.invoke("SendUser", name, shown(name));
    await cluster.barrier(...users);
    assert.deepEqual(users.map((user) => user.take()), names.map((name) => (name === "" ? [] : [["Message", shown(name)]])));
  });

  test(`${protocol}: a name over the limit is an error to the caller, who goes on`, async (t) => {
    const client = await connect(t, one, { protocol });
    const long = "x".repeat(LIMIT_BYTES + 1);
    for (const [method, ...args] of [
      ["JoinGroup", long],
      ["LeaveGroup", long],
      ["SendGroup", long, "never"],
      ["SendGroups", ["short", long], "never"],
      ["SendGroupExcept", long, [], "never"],
      ["SendOthersInGroup", long, "never"],
      ["SendUser", long, "never"],
      ["SendUsers", ["short", long], "never"],
    ]) {
      await assert.rejects(client.invoke(method, ...args), { message: `An unexpected error occurred invoking '${method}' on the server.` });
    }
    await client.invoke("JoinGroup", "short");
    await client.invoke("SendGroup", "short", "goes on");
    await cluster.barrier(client);
    assert.deepEqual(client.take(), [["Message", "goes on"]]);
  });

  test(`${protocol}: a user id over the limit cannot connect`, async (t) => {
    await assert.rejects(connect(t, one, { protocol, user: "x".repeat(LIMIT_BYTES + 1) }), {
      message: "Server returned handshake error: An unexpected error occurred during connection handshake.",
    });
  });
}

test(`a connection may be in ${rounds(1_000)} groups`, async (t) => {
  const member = await connect(t, one);
  const sender = await connect(t, two);
  const groups = Array.from({ length: rounds(1_000) }, (_, i) => `one of many ${i}`);
  await Promise.all(groups.map((group) => member.invoke("JoinGroup", group)));
  for (const group of groups) await sender.invoke("SendGroup", group, group);
  await cluster.barrier(member);
  assert.deepEqual(member.take(), groups.map((group) => ["Message", group]));
});
