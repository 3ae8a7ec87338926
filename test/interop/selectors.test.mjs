// Every selector, across nodes: exactly the right connections, each once.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { connect } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

const cast = {
  ada1: { node: one, user: "ada", protocol: "json", groups: ["red"] },
  ada2: { node: two, user: "ada", protocol: "messagepack", groups: ["red", "blue"] },
  ben1: { node: one, user: "ben", protocol: "messagepack", groups: ["blue"] },
  ben2: { node: two, user: "ben", protocol: "json", groups: ["red"] },
  cyn1: { node: one, user: "cyn", protocol: "json", groups: ["red", "blue"] },
  nobody2: { node: two, protocol: "messagepack", groups: [] },
};
const everybody = Object.keys(cast);
const but = (...names) => everybody.filter((name) => !names.includes(name));

// What to send, by the ids of the cast, and who receives it, by the sender. A name that
// stands twice receives it twice.
const selectors = [
  ["all", () => ["SendAll"], () => everybody],
  ["all except two", (id) => ["SendAllExcept", [id.ada2, id.ben1]], () => but("ada2", "ben1")],
  ["all except nobody", () => ["SendAllExcept", []], () => everybody],
  ["all except somebody unknown", () => ["SendAllExcept", ["unknown"]], () => everybody],
  ["others", () => ["SendOthers"], (sender) => but(sender)],
  ["caller", () => ["SendCaller"], (sender) => [sender]],
  ["client of node 1", (id) => ["SendClient", id.ben1], () => ["ben1"]],
  ["client of node 2", (id) => ["SendClient", id.ada2], () => ["ada2"]],
  ["unknown client", () => ["SendClient", "unknown"], () => []],
  ["clients", (id) => ["SendClients", [id.ada2, "unknown", id.cyn1]], () => ["ada2", "cyn1"]],
  ["clients named twice", (id) => ["SendClients", [id.ada2, id.ben1, id.ada2, id.ben1]], () => ["ada2", "ben1"]],
  ["no clients", () => ["SendClients", []], () => []],
  ["group", () => ["SendGroup", "red"], () => ["ada1", "ada2", "ben2", "cyn1"]],
  ["unknown group", () => ["SendGroup", "green"], () => []],
  ["groups", () => ["SendGroups", ["red", "blue"]], () => ["ada1", "ada2", "ada2", "ben1", "ben2", "cyn1", "cyn1"]],
  ["groups, one unknown", () => ["SendGroups", ["green", "blue"]], () => ["ada2", "ben1", "cyn1"]],
  ["no groups", () => ["SendGroups", []], () => []],
  ["group except a member and a stranger", (id) => ["SendGroupExcept", "red", [id.ada2, id.ben1]], () => ["ada1", "ben2", "cyn1"]],
  ["group except nobody", () => ["SendGroupExcept", "blue", []], () => ["ada2", "ben1", "cyn1"]],
  ["others in group", () => ["SendOthersInGroup", "red"], (sender) => ["ada1", "ada2", "ben2", "cyn1"].filter((name) => name !== sender)],
  ["user", () => ["SendUser", "ada"], () => ["ada1", "ada2"]],
  ["unknown user", () => ["SendUser", "dan"], () => []],
  ["users", () => ["SendUsers", ["ada", "dan", "cyn"]], () => ["ada1", "ada2", "cyn1"]],
  ["users named twice", () => ["SendUsers", ["ben", "ben"]], () => ["ben1", "ben2"]],
  ["no users", () => ["SendUsers", []], () => []],
];

const clients = {};
const ids = {};

before(async () => {
  for (const [name, { node, groups, ...options }] of Object.entries(cast)) {
    clients[name] = await connect(undefined, node, options);
    ids[name] = clients[name].id;
    for (const group of groups) await clients[name].invoke("JoinGroup", group);
  }
});

for (const sender of everybody) {
  test(`sent by ${sender}, who speaks ${cast[sender].protocol}`, async (t) => {
    for (const [title, call, receivers] of selectors) {
      await t.test(title, async () => {
        const [method, ...args] = call(ids);
        await clients[sender].invoke(method, ...args, title);
        await cluster.barrier(...Object.values(clients));

        const expected = Object.fromEntries(everybody.map((name) => [name, []]));
        for (const name of receivers(sender)) expected[name].push(["Message", title]);
        const received = Object.fromEntries(everybody.map((name) => [name, clients[name].take()]));
        assert.deepEqual(received, expected);
      });
    }
  });
}
