// What a client may do: by its role, by its token, and by the answer of a join authorizer.

import assert from "node:assert/strict";
import { createSign, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";

import { connect as connectTo, protocols } from "./lib/client.mjs";
import { opshub, startCluster } from "./lib/cluster.mjs";
import { token, userToken } from "./lib/token.mjs";
import { deferred, settled, until } from "./lib/wait.mjs";

const ISSUER = "https://issuer.example";
const issuer = generateKeyPairSync("rsa", { modulusLength: 2048 });
const publicKey = issuer.publicKey.export({ type: "spki", format: "pem" });

const cluster = await startCluster({ program: opshub, env: { ISSUER_KEY: publicKey } });
const [one, two] = cluster.nodes;

const connect = (t, node, options) => connectTo(t, node, { path: opshub.path, ...options });
const connectOperator = (t, node, protocol) => connect(t, node, { protocol, token: token({ sub: "operator", role: "operator" }) });

const failed = (method, text) => ({ message: `An unexpected error occurred invoking '${method}' on the server. HubException: ${text}` });
const now = () => Math.floor(Date.now() / 1000);

/** A token of the issuer, or of somebody who says so. */
function issued(claims, { key = issuer.privateKey, algorithm = "RS256", hash = "RSA-SHA256" } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${part({ alg: algorithm, typ: "JWT" })}.${part({ iss: ISSUER, exp: now() + 3600, ...claims })}`;
  return `${body}.${createSign(hash).update(body).sign(key, "base64url")}`;
}

const guarded = {
  AddUser: ["user", "group"],
  RemoveUser: ["user", "group"],
  RemoveUserFromAll: ["user"],
  RemoveFromAll: ["id"],
  CloseConnection: ["id", "", false],
  CloseUser: ["user", "", false],
  CloseGroup: ["group", "", false],
  ConnectionExists: ["id"],
  UserExists: ["user"],
  GroupExists: ["group"],
};

for (const protocol of Object.keys(protocols)) {
  const named = (name) => `${protocol} ${name}`;

  for (const [who, claims] of Object.entries({
    "nobody": undefined,
    "a user": { sub: "operator" },
    "one with another role": { sub: "ada", role: ["Operator", "guest"] },
  })) {
    test(`${protocol}: ${who} does not operate`, async (t) => {
      const user = named(`safe from ${who}`), group = user;
      const victim = await connect(t, two, { protocol, user });
      await victim.invoke("Join", group);
      const client = await connect(t, one, { protocol, token: claims && token(claims) });
      const targets = { user, group, id: victim.id };
      for (const [method, args] of Object.entries(guarded)) {
        await assert.rejects(
          client.invoke(method, ...args.map((arg) => targets[arg] ?? arg)),
          { message: `Failed to invoke '${method}' because user is unauthorized` },
        );
      }
      await client.invoke("SendGroup", group, "still in");
      await cluster.barrier(victim, client);
      assert.deepEqual(victim.take(), [["Message", "still in"]]);
    });
  }

  test(`${protocol}: a private group is for those who have the clearance`, async (t) => {
    const group = `private:${named("group")}`;
    const outsider = await connect(t, one, { protocol, user: named("outsider") });
    const partial = await connect(t, one, { protocol, token: token({ sub: "ben", clearance: "public" }) });
    const insider = await connect(t, two, { protocol, token: token({ sub: "ada", clearance: ["public", "private"] }) });
    const operator = await connectOperator(t, two, protocol);

    await insider.invoke("Join", group);
    for (const client of [outsider, partial]) {
      await assert.rejects(client.invoke("Join", group), failed("Join", `${group} is private`));
      await assert.rejects(client.invoke("JoinFor", group, 60_000), failed("JoinFor", `${group} is private`));
      // Nor may it have others join, on whatever node they are.
      for (const id of [partial.id, outsider.id, operator.id]) {
        await assert.rejects(client.invoke("Bring", id, group), failed("Bring", `${group} is private`));
      }
      await assert.rejects(client.invoke("BringUser", "operator", group), failed("BringUser", `${group} is private`));
    }
    await operator.invoke("SendGroup", group, "for insiders");
    await cluster.barrier(outsider, partial, insider, operator);
    assert.deepEqual([outsider, partial, operator].map((client) => client.take()), [[], [], []]);
    assert.deepEqual(insider.take(), [["Message", "for insiders"]]);

    // The insider may have others join, and the server asks nobody.
    await insider.invoke("Bring", outsider.id, group);
    await operator.invoke("AddUser", "ben", group);
    await operator.invoke("SendGroup", group, "for all three");
    await cluster.barrier(outsider, partial, insider);
    for (const client of [outsider, partial, insider]) assert.deepEqual(client.take(), [["Message", "for all three"]]);
  });

  test(`${protocol}: a join waits for the authorizer`, async (t) => {
    const group = `asked:${named("group")}`;
    const member = await connect(t, one, { protocol });
    const operator = await connectOperator(t, two, protocol);
    let asked = deferred(), answer = deferred();
    member.handle("MayJoin", (about) => {
      asked.resolve(about);
      return answer.promise;
    });

    const joined = member.invoke("Join", group);
    assert.equal(await settled("the authorizer asks", asked.promise), group);
    assert.equal(await operator.invoke("GroupExists", group), false);
    await operator.invoke("SendGroup", group, "too early");
    answer.resolve(true);
    await joined;
    await operator.invoke("SendGroup", group, "in");
    await cluster.barrier(member);
    assert.deepEqual(member.take(), [["Message", "in"]]);

    await operator.invoke("RemoveFromAll", member.id);
    [asked, answer] = [deferred(), deferred()];
    answer.resolve(false);
    await assert.rejects(member.invoke("Join", group), failed("Join", `you did not want to join ${group}`));
    assert.equal(await operator.invoke("GroupExists", group), false);
  });

  test(`${protocol}: the authorizer's answer ends a membership`, async (t) => {
    const group = `brief:${named("group")}`;
    const member = await connect(t, one, { protocol });
    const operator = await connectOperator(t, two, protocol);
    const expired = () => until("the membership expires", async () => {
      if (await operator.invoke("GroupExists", group)) return "there is a member";
    });
    // The earlier of two ends counts.
    for (const join of [["Join", group], ["JoinFor", group, 3_600_000]]) {
      await until("there is a member", async () => {
        await member.invoke(...join);
        if (!await operator.invoke("GroupExists", group)) return "the membership has expired already";
      });
      await expired();
      await operator.invoke("SendGroup", group, "out");
      await cluster.barrier(member);
      assert.deepEqual(member.take(), []);
    }
  });

  test(`${protocol}: a membership ends with the token, and the connection goes on`, async (t) => {
    const group = named("signed in"), other = named("signed in for long");
    const operator = await connectOperator(t, two, protocol);
    const longer = await connect(t, one, { protocol, user: named("long") });
    let member;
    await until("a client joins before its token expires", async () => {
      member = await connect(t, one, { protocol, token: token({ sub: named("short"), exp: now() + 2 }) });
      await member.invoke("JoinWhileSignedIn", group);
    });
    await longer.invoke("JoinWhileSignedIn", other);
    await until("the token expires", async () => {
      if (await operator.invoke("GroupExists", group)) return "there is a member";
    });
    await operator.invoke("SendGroup", group, "out");
    await operator.invoke("SendGroup", other, "in");
    await cluster.barrier(member, longer);
    assert.deepEqual([member.take(), longer.take()], [[], [["Message", "in"]]]);
    await assert.rejects(member.invoke("JoinWhileSignedIn", group), failed("JoinWhileSignedIn", "expired already"));
  });

  test(`${protocol}: revoked, and not let in again`, async (t) => {
    const user = named("guest"), group = `private:${named("revoked")}`;
    const guests = [];
    for (const node of cluster.nodes) guests.push(await connect(t, node, { protocol, user }));
    const insider = await connect(t, one, { protocol, token: token({ sub: "ada", clearance: "private" }) });
    const operator = await connectOperator(t, two, protocol);
    await insider.invoke("Join", group);
    await insider.invoke("BringUser", user, group);
    await operator.invoke("SendGroup", group, "with guests");
    await operator.invoke("RemoveUser", user, group);
    await insider.invoke("SendGroup", group, "without guests");
    await cluster.barrier(insider, ...guests);
    assert.deepEqual(insider.take(), [["Message", "with guests"], ["Message", "without guests"]]);
    for (const guest of guests) {
      assert.deepEqual(guest.take(), [["Message", "with guests"]]);
      await assert.rejects(guest.invoke("Join", group), failed("Join", `${group} is private`));
    }
  });

  test(`${protocol}: tokens of an issuer with an RSA key`, async (t) => {
    const client = await connect(t, one, { protocol, token: issued({ sub: named("ada"), role: "operator" }) });
    assert.equal(await client.invoke("who am I"), named("ada"));
    assert.equal(await client.invoke("UserExists", named("ada")), true);
  });
}

const stranger = generateKeyPairSync("rsa", { modulusLength: 2048 });
for (const [what, make] of Object.entries({
  "signed with another RSA key": () => issued({ sub: "ada" }, { key: stranger.privateKey }),
  "signed for another algorithm than the key is pinned to": () => issued({ sub: "ada" }, { algorithm: "RS512", hash: "RSA-SHA512" }),
  "signed with the public key as a secret": () => token({ iss: ISSUER, sub: "ada" }, { secret: publicKey }),
  "of the issuer, signed with the secret of others": () => token({ iss: ISSUER, sub: "ada" }),
  "of another issuer, signed with this one's key": () => issued({ iss: "https://other.example", sub: "ada" }),
  "of the issuer, expired": () => issued({ sub: "ada", exp: now() - 1 }),
  "of the issuer, and not signed": () => token({ iss: ISSUER, sub: "ada" }, { algorithm: "none" }),
})) {
  test(`a token is refused that is ${what}`, async (t) => {
    await assert.rejects(connect(t, one, { token: make() }), /Status code '401'/);
  });
}

test("tokens of nobody and of the issuer are good side by side", async (t) => {
  for (const [bearer, user] of [[userToken("ben"), "ben"], [issued({ sub: "ada" }), "ada"], [undefined, ""]]) {
    for (const node of [one, two]) {
      const client = await connect(t, node, { token: bearer });
      assert.equal(await client.invoke("who am I"), user);
    }
  }
});
