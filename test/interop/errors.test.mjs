// Invocations that fail: the reference implementation's texts, and a connection that
// goes on.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Subject } from "@microsoft/signalr";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { openHub, RECORD_SEPARATOR } from "./lib/socket.mjs";

const cluster = await startCluster({ nodes: 1 });
const [node] = cluster.nodes;

const binding = (method) => `Failed to invoke '${method}' due to an error on the server.`;
const failed = (method) => `An unexpected error occurred invoking '${method}' on the server.`;
const unknown = (method) => `${binding(method)} HubException: Method does not exist.`;

const failures = [
  ["unknown method", ["Nope"], unknown("Nope")],
  ["unknown method with arguments", ["nope at all", 1, { a: [] }], unknown("nope at all")],
  ["a connected handler is no method", ["OnConnected"], unknown("OnConnected")],
  ["a disconnected handler is no method", ["ondisconnected"], unknown("ondisconnected")],
  ["too few arguments", ["Add", 1], binding("Add")],
  ["too many arguments", ["Add", 1, 2, 3], binding("Add")],
  ["arguments for a method without", ["Nothing", 1], binding("Nothing")],
  ["none for a method that takes any", ["Echo"], binding("Echo")],
  ["a string for a number", ["Add", "1", 2], binding("Add")],
  ["a number for a string", ["SendAll", 1], binding("SendAll")],
  ["a string for a list", ["SendClients", "id", "text"], binding("SendClients")],
  ["a number in a list of strings", ["SendClients", [1], "text"], binding("SendClients")],
  ["an object for a string", ["JoinGroup", {}], binding("JoinGroup")],
  ["in other case: the text has the name as declared", ["aDD", 1], binding("Add")],
  ["an error of the method", ["ThrowError", "secret text"], failed("ThrowError")],
  ["an error for the client", ["ThrowHubError", "for your eyes"], `${failed("ThrowHubError")} HubException: for your eyes`],
  ["an empty error for the client", ["ThrowHubError", ""], `${failed("ThrowHubError")} HubException: `],
  ["an error for the client, called in other case", ["throwhuberror", "東京 \"\\\u001e"], `${failed("ThrowHubError")} HubException: 東京 "\\\u001e`],
];

for (const protocol of Object.keys(protocols)) {
  test(protocol, async (t) => {
    const client = await connect(t, node, { protocol });
    for (const [title, call, message] of failures) {
      await t.test(title, async () => {
        await assert.rejects(client.invoke(...call), { message });
        assert.equal(await client.invoke("Echo", "goes on"), "goes on");
      });
    }

    await t.test("a stream of a method that has none", async () => {
      assert.deepEqual(await client.stream("Echo", 1), {
        items: [],
        error: "The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation.",
      });
      assert.equal(await client.invoke("Echo", "goes on"), "goes on");
    });

    await t.test("an upload to a method that takes none", async () => {
      const upload = new Subject();
      const answer = client.invoke("Echo", 1, upload);
      await assert.rejects(answer, { message: `${failed("Echo")} HubException: Client sent 1 stream(s), Hub method expects 0.` });
      upload.next("nobody reads this");
      upload.complete();
      assert.equal(await client.invoke("Echo", "goes on"), "goes on");
    });

    await t.test("names are found in any case", async () => {
      assert.equal(await client.invoke("eChO", 7), 7);
      assert.equal(await client.invoke("ECHOINT64", 7), 7);
    });

    await t.test("many failures and successes at once are answered each", async () => {
      const answers = await Promise.allSettled(Array.from({ length: 200 }, (_, i) =>
        i % 4 === 0 ? client.invoke("ThrowHubError", `${i}`) : i % 4 === 1 ? client.invoke(`Nope${i}`) : client.invoke("Echo", i)));
      for (const [i, answer] of answers.entries()) {
        if (i % 4 === 0) assert.equal(answer.reason.message, `${failed("ThrowHubError")} HubException: ${i}`);
        else if (i % 4 === 1) assert.equal(answer.reason.message, unknown(`Nope${i}`));
        else assert.equal(answer.value, i);
      }
    });
  });
}

test("an invocation without an id is never answered, whatever becomes of it", async (t) => {
  const socket = await openHub(t, node);
  for (const call of [`"target":"Nope","arguments":[]`, `"target":"Add","arguments":[1]`, `"target":"ThrowHubError","arguments":["x"]`, `"target":"Echo","arguments":[1]`, `"invocationId":"","target":"Echo","arguments":[1]`]) {
    socket.send(`{"type":1,${call}}${RECORD_SEPARATOR}`);
  }
  socket.send(`{"type":1,"invocationId":"last","target":"Echo","arguments":[2]}${RECORD_SEPARATOR}`);
  assert.equal(await socket.frame(), '{"type":3,"invocationId":"last","result":2}');
});

test("invocations of one connection run one at a time and in order", async (t) => {
  const socket = await openHub(t, node);
  const calls = ["Slow", "Echo", "Slow", "Nothing"];
  socket.send(calls.map((target, i) => {
    const args = { Slow: [100 - 20 * i], Echo: [i], Nothing: [] }[target];
    return JSON.stringify({ type: 1, invocationId: `${i}`, target, arguments: args }) + RECORD_SEPARATOR;
  }).join(""));
  const answers = [];
  for (const _ of calls) answers.push(JSON.parse(await socket.frame()));
  assert.deepEqual(answers.map(({ invocationId, result }) => [invocationId, result]), [["0", "done"], ["1", 1], ["2", "done"], ["3", null]]);
});
