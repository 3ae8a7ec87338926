// What a hub does to connections, wherever they are: it is in force when it has returned.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect as connectTo, protocols } from "./lib/client.mjs";
import { opshub, startCluster } from "./lib/cluster.mjs";
import { token } from "./lib/token.mjs";
import { deferred, rounds, settled, until } from "./lib/wait.mjs";

// Subscriptions are late, so that who does not wait for them is caught.
const cluster = await startCluster({ program: opshub, delaySubscriptions: true });
const [one, two] = cluster.nodes;

/** A cluster that does not wait long. */
const impatient = await startCluster({ program: opshub, env: { OPERATION_TIMEOUT: "2s" } });

const connect = (t, node, options) => connectTo(t, node, { path: opshub.path, ...options });
const connectOperator = (t, node, protocol) => connect(t, node, { protocol, token: token({ sub: "operator", role: "operator" }) });

const failed = (method, text) => ({ message: `An unexpected error occurred invoking '${method}' on the server. HubException: ${text}` });

/** The ways to end memberships: what an operator invokes, and whether other groups are left alone. */
const removals = {
  RemoveUser: { keepsOthers: true, perform: (operator, { user, group }) => operator.invoke("RemoveUser", user, group) },
  RemoveUserFromAll: { keepsOthers: false, perform: (operator, { user }) => operator.invoke("RemoveUserFromAll", user) },
  RemoveFromAll: { keepsOthers: false, perform: (operator, { ids }) => Promise.all(ids.map((id) => operator.invoke("RemoveFromAll", id))) },
};

/** The ways to close connections. */
const closings = {
  CloseConnection: (operator, { ids }, ...how) => Promise.all(ids.map((id) => operator.invoke("CloseConnection", id, ...how))),
  CloseUser: (operator, { user }, ...how) => operator.invoke("CloseUser", user, ...how),
  CloseGroup: (operator, { group }, ...how) => operator.invoke("CloseGroup", group, ...how),
};

for (const protocol of Object.keys(protocols)) {
  const named = (name) => `${protocol} ${name}`;

  for (const [operation, { keepsOthers, perform }] of Object.entries(removals)) {
    test(`${protocol}: a user's connections on both nodes are added by AddUser and removed by ${operation}`, async (t) => {
      const user = named(operation), group = named(operation), other = named(`other than ${operation}`);
      const members = [];
      for (const node of [one, two, two]) members.push(await connect(t, node, { protocol, user }));
      const bystander = await connect(t, two, { protocol, user: named("bystander") });
      const operators = [await connectOperator(t, one, protocol), await connectOperator(t, two, protocol)];
      const ids = members.map((member) => member.id);
      const everybody = [...members, bystander];
      const send = (group, text) => Promise.all(operators.map((operator) => operator.invoke("SendGroup", group, text)));
      const messages = (...texts) => texts.flatMap((text) => [["Message", text], ["Message", text]]);

      await bystander.invoke("Join", group);
      for (let i = 0; i < rounds(100); i++) {
        const operator = operators[i % 2];
        await operator.invoke("AddUser", user, group);
        await operator.invoke("AddUser", user, other);
        await send(group, `in ${i}`);
        await cluster.barrier(...everybody);
        await perform(operator, { user, group, ids });
        await send(group, `out ${i}`);
        await send(other, `other ${i}`);
        await cluster.barrier(...everybody);
        const expected = messages(`in ${i}`, ...(keepsOthers ? [`other ${i}`] : []));
        assert.deepEqual(members.map((member) => member.take()), members.map(() => expected));
        assert.deepEqual(bystander.take(), messages(`in ${i}`, `out ${i}`));
      }
    });

    test(`${protocol}: ${operation} from another node ends a join that is under way`, async (t) => {
      const user = named(`joining ${operation}`), group = `asked:${named(operation)}`;
      const member = await connect(t, one, { protocol, user });
      const operator = await connectOperator(t, two, protocol);
      let asked = deferred(), answer = deferred();
      member.handle("MayJoin", () => {
        asked.resolve();
        return answer.promise;
      });
      const refused = assert.rejects(member.invoke("Join", group), failed("Join", "removed from the group meanwhile"));
      await settled("the member is asked", asked.promise);
      await perform(operator, { user, group, ids: [member.id] });
      answer.resolve(true);
      await refused;
      await operator.invoke("SendGroup", group, "out");

      await member.invoke("Join", group);
      await operator.invoke("SendGroup", group, "in");
      await cluster.barrier(member);
      assert.deepEqual(member.take(), [["Message", "in"]]);
    });
  }

  test(`${protocol}: AddUser is about the connections that there are`, async (t) => {
    const user = named("later"), group = named("later");
    const operator = await connectOperator(t, two, protocol);
    await operator.invoke("AddUser", user, group);
    const member = await connect(t, one, { protocol, user });
    await operator.invoke("SendGroup", group, "too early");
    await operator.invoke("AddUser", user, group);
    await operator.invoke("SendGroup", group, "in");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "in"]]);
  });

  for (const [operation, perform] of Object.entries(closings)) {
    /** Two clients that would reconnect, and one who is not meant. */
    async function connectTargets(t, name) {
      const user = named(`${operation} ${name}`), group = user;
      const targets = [];
      for (const node of [one, two]) {
        const client = await connect(t, node, { protocol, user, reconnect: [0, 0, 0] });
        const reconnecting = deferred(), reconnected = deferred();
        client.onReconnecting(reconnecting.resolve);
        client.onReconnected(reconnected.resolve);
        await client.invoke("Join", group);
        targets.push({ client, id: client.id, reconnecting: reconnecting.promise, reconnected: reconnected.promise });
      }
      const bystander = await connect(t, two, { protocol, user: named("bystander") });
      const operator = await connectOperator(t, one, protocol);
      return { user, group, targets, ids: targets.map(({ id }) => id), bystander, operator };
    }

    for (const [reason, text] of [["enough of you", "Server returned an error on close: enough of you"], ["", undefined]]) {
      test(`${protocol}: ${operation} with reason "${reason}" is final`, async (t) => {
        const { targets, bystander, operator, ...of } = await connectTargets(t, `for ${reason}`);
        await perform(operator, of, reason, false);
        for (const { client, reconnecting } of targets) {
          const end = await Promise.race([client.closed, reconnecting.then(() => assert.fail("the client reconnects"))]);
          assert.equal(end?.message, text);
        }
        await bystander.invoke("SendGroup", of.group, "nobody is there");
        await cluster.barrier(bystander, operator);
      });
    }

    test(`${protocol}: ${operation} may allow to reconnect`, async (t) => {
      const { targets, operator, ...of } = await connectTargets(t, "for a moment");
      await perform(operator, of, "have a break", true);
      for (const { client, id, reconnecting, reconnected } of targets) {
        const reason = await settled("the client reconnects", reconnecting);
        assert.equal(reason.message, "Server returned an error on close: have a break");
        const newID = await settled("the client is connected again", reconnected);
        assert.equal(newID, client.id);
        assert.notEqual(newID, id);
      }
      const clients = targets.map(({ client }) => client);
      await operator.invoke("SendGroup", of.group, "to those who were members");
      await operator.invoke("AddUser", of.user, of.group);
      await operator.invoke("SendGroup", of.group, "to the new connections");
      await cluster.barrier(...clients);
      assert.deepEqual(clients.map((client) => client.take()), clients.map(() => [["Message", "to the new connections"]]));
    });
  }

  for (const [where, node] of [["the same node", one], ["another node", two]]) {
    test(`${protocol}: who exists, asked from ${where}`, async (t) => {
      const user = named(`existing ${where}`), group = user;
      const member = await connect(t, one, { protocol, user });
      const operator = await connectOperator(t, node, protocol);
      const id = member.id;
      const existing = () => Promise.all([["ConnectionExists", id], ["UserExists", user], ["GroupExists", group]].map((question) => operator.invoke(...question)));

      assert.deepEqual(await existing(), [true, true, false]);
      await member.invoke("Join", group);
      assert.deepEqual(await existing(), [true, true, true]);
      await operator.invoke("RemoveUser", user, group);
      assert.deepEqual(await existing(), [true, true, false]);
      await member.stop();
      await until("the connection and the user are gone", async () => {
        const still = await existing();
        if (still.includes(true)) return still;
      });
    });
  }

  test(`${protocol}: who does not exist`, async (t) => {
    const operator = await connectOperator(t, one, protocol);
    for (const method of ["ConnectionExists", "UserExists", "GroupExists"]) {
      assert.equal(await operator.invoke(method, "unknown"), false);
    }
    for (const [method, ...how] of [["RemoveFromAll"], ["CloseConnection", "", false]]) {
      await assert.rejects(operator.invoke(method, "unknown", ...how), failed(method, "no such connection"));
    }
    for (const [method, ...rest] of [["AddUser", "group"], ["RemoveUser", "group"], ["RemoveUserFromAll"], ["CloseUser", "", false], ["CloseGroup", "", false]]) {
      await operator.invoke(method, "unknown", ...rest);
    }
  });

  test(`${protocol}: a membership that has expired gets nothing more`, async (t) => {
    const group = named("expiring"), extended = named("extended");
    const member = await connect(t, one, { protocol });
    const operator = await connectOperator(t, two, protocol);
    const hour = 3_600_000;
    await member.invoke("JoinFor", group, hour);
    await member.invoke("JoinFor", extended, 100);
    await operator.invoke("SendGroup", group, "in");
    await member.invoke("JoinFor", group, 200); // later than the end that extended would have had
    await member.invoke("JoinFor", extended, hour);
    await member.invoke("Join", extended);
    await until("the membership expires", async () => {
      if (await operator.invoke("GroupExists", group)) return "there is a member";
    });
    await operator.invoke("SendGroup", group, "out");
    await operator.invoke("SendGroup", extended, "still in");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "in"], ["Message", "still in"]]);

    await assert.rejects(member.invoke("JoinFor", group, 0), failed("JoinFor", "expired already"));
    assert.equal(await operator.invoke("GroupExists", group), false);
    await member.invoke("Join", group);
    await operator.invoke("SendGroup", group, "in again");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "in again"]]);
  });

  test(`${protocol}: operations name a node that does not answer`, async (t) => {
    const [here, there] = impatient.nodes;
    const user = named("out of reach"), group = user;
    const member = await connect(t, there, { protocol, user });
    const operator = await connectOperator(t, here, protocol);
    const silent = await member.invoke("Node");
    await member.invoke("Join", group);
    await until("both nodes answer", () => operator.invoke("AddUser", "nobody", group));

    const operations = [
      ["RemoveUser", user, group],
      ["RemoveUserFromAll", "nobody"],
      ["AddUser", "nobody", group],
      ["CloseUser", "nobody", "", false],
      ["CloseGroup", "nothing", "", false],
      ["UserExists", "nobody"],
      ["GroupExists", "nothing"],
    ];
    // Invocations of one client would run one after the other.
    const operators = await Promise.all(operations.map(() => connectOperator(t, here, protocol)));
    await there.frozenDuring(() => Promise.all(operations.map(([method, ...rest], i) => (
      assert.rejects(operators[i].invoke(method, ...rest), failed(method, `no answer from ${silent}`))
    ))));

    await until("both nodes answer again", () => operator.invoke("RemoveUser", user, group));
    await operator.invoke("SendGroup", group, "out");
    // Another group: what was not answered in time may still come to be.
    await member.invoke("Join", named("within reach"));
    await operator.invoke("SendGroup", named("within reach"), "in");
    await impatient.barrier(member);
    assert.deepEqual(member.take(), [["Message", "in"]]);
  });
}
