// What is sent is what arrives, whatever the protocols of the two ends.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { openHub, RECORD_SEPARATOR } from "./lib/socket.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

const cannotBind = (method) => ({ message: `Failed to invoke '${method}' due to an error on the server.` });

// How each protocol's client writes and reads the two kinds of value that have no form
// in JSON.
const forms = {
  json: {
    bytes: (bytes) => Buffer.from(bytes).toString("base64"),
    time: (date) => date.toISOString(),
    readTime: (text) => {
      assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
      return new Date(text);
    },
  },
  messagepack: {
    bytes: (bytes) => Uint8Array.from(bytes),
    time: (date) => date,
    readTime: (date) => {
      assert(date instanceof Date, `${date} is no timestamp`);
      return date;
    },
  },
};

const plain = [
  {
    name: "plain", count: 1, data: [0, 1, 127, 128, 255], when: new Date("2026-02-28T23:59:59Z"), tags: ["a", "b"], inner: null,
  },
  { name: "", count: 0, data: [], when: new Date(0), tags: [], inner: null },
  {
    name: "nested, in 東京 \u001e\0\"\\<>&'+\u2028", count: -2147483648, data: Array.from({ length: 1000 }, (_, i) => i % 256), when: new Date("1969-12-31T23:59:59.999Z"), tags: ["", "👩‍👩‍👧"],
    inner: {
      name: "inner", count: 2147483647, data: [42], when: new Date("2500-01-01T12:30:00.001Z"), tags: [],
      inner: { name: "innermost", count: 7, data: [1], when: new Date("2026-11-24T10:11:12.345Z"), tags: ["c"], inner: null },
    },
  },
];

/** The item as a client of the protocol writes it. */
function write(item, protocol) {
  if (item === null) return null;
  const form = forms[protocol];
  return { ...item, data: form.bytes(item.data), when: form.time(item.when), inner: write(item.inner, protocol) };
}

/** The same for all protocols, of an item as a client reads it. */
function read(item, protocol) {
  if (item === null) return null;
  const form = forms[protocol];
  const data = protocol === "json" ? [...Buffer.from(item.data, "base64")] : [...item.data];
  assert.deepEqual(item.data, form.bytes(data)); // no other form of the same bytes
  return { ...item, data, when: form.readTime(item.when), inner: read(item.inner, protocol) };
}

for (const from of Object.keys(protocols)) {
  for (const to of Object.keys(protocols)) {
    for (const [where, node] of [["the other node", two], ["the same node", one]]) {
      test(`an item from ${from} to ${to} on ${where}`, async (t) => {
        const sender = await connect(t, one, { protocol: from });
        const receiver = await connect(t, node, { protocol: to });
        for (const item of plain) await sender.invoke("Relay", receiver.id, write(item, from));
        await receiver.waitFor("all items arrive", (log) => log.length >= plain.length);
        const received = receiver.take().map(([method, item]) => [method, read(item, to)]);
        assert.deepEqual(received, plain.map((item) => ["Item", item]));
      });
    }
  }
}

test("a time with an offset arrives in UTC", async (t) => {
  const sender = await connect(t, one);
  const receiver = await connect(t, two);
  await sender.invoke("Relay", receiver.id, { ...write(plain[0], "json"), when: "2026-06-01T01:30:00.5+02:00" });
  await receiver.waitFor("the item arrives", (log) => log.length > 0);
  assert.equal(receiver.take()[0][1].when, "2026-05-31T23:30:00.5Z");
});

test("an item whose parts have other types is refused", async (t) => {
  for (const protocol of Object.keys(protocols)) {
    const client = await connect(t, one, { protocol });
    const good = write(plain[0], protocol);
    for (const wrong of [{ name: 1 }, { count: "1" }, { count: 1.5 }, { count: 2147483648 }, { data: [1] }, { when: "yesterday" }, { tags: "a" }, { tags: [1] }, { inner: [] }]) {
      await assert.rejects(client.invoke("Relay", client.id, { ...good, ...wrong }), cannotBind("Relay"), JSON.stringify(wrong));
    }
    await cluster.barrier(client);
    assert.deepEqual(client.take(), []);
  }
});

const values = [
  null, true, false, 0, 1, -1, 127, 128, 255, 256, -32, -33, -128, -129, 65535, 65536, 2147483647, 2147483648, -2147483648, -2147483649,
  4294967295, 4294967296, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0.1, -1.5, 1e21, 1.7976931348623157e308, 5e-324,
  "", "x", "x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256), "x".repeat(30_000), "\u001e", "\0\n\t\"\\/<>&'+", "東京 👩‍👩‍👧 \u2028",
  [], [1, [2, [3, []]], "x", null], Array.from({ length: 20 }, (_, i) => i), Array.from({ length: 1000 }, (_, i) => i),
  {}, { a: 1, A: 2, "": { b: [{ c: null }] }, "key with spaces\n": "x" }, Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`key${i}`, i])),
];

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: values come back unchanged`, async (t) => {
    const client = await connect(t, one, { protocol });
    for (const value of values) assert.deepEqual(await client.invoke("Echo", value), value);
    const binary = [Uint8Array.of(), Uint8Array.of(1, 2, 255), new Date("2026-11-24T10:11:12.345Z"), { at: new Date(0), bytes: [Uint8Array.of(0)] }];
    if (protocol === "messagepack") {
      for (const value of binary) assert.deepEqual(await client.invoke("Echo", value), value);
    }
  });

  test(`${protocol}: integers are bound strictly`, async (t) => {
    const client = await connect(t, one, { protocol });
    for (const n of [0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]) assert.equal(await client.invoke("EchoInt64", n), n);
    assert.equal(await client.invoke("Add", 2147483647, -2147483648), -1);
    assert.equal(await client.invoke("Add", 2147483646, 1), 2147483647);
    for (const wrong of [2147483648, -2147483649, 1.5, "1", true, null, [1], {}]) {
      await assert.rejects(client.invoke("Add", wrong, 1), cannotBind("Add"), `${wrong} + 1`);
      await assert.rejects(client.invoke("Add", 1, wrong), cannotBind("Add"), `1 + ${wrong}`);
    }
    for (const wrong of [2 ** 64, -(2 ** 64), 0.5, "1", null]) {
      await assert.rejects(client.invoke("EchoInt64", wrong), cannotBind("EchoInt64"), `${wrong}`);
    }
    assert.equal(await client.invoke("Add", 20, 22), 42);
  });

  test(`${protocol}: results of every kind`, async (t) => {
    const client = await connect(t, one, { protocol, user: "somebody" });
    assert.equal(await client.invoke("Nothing"), null);
    assert.equal(await client.invoke("MakeString", 0), "");
    assert.equal(await client.invoke("MakeString", 1_000_000), "x".repeat(1_000_000));
    assert.equal(await client.invoke("Slow", 5), "done");
    assert.deepEqual(await client.invoke("WhoAmI"), { connectionId: client.id, userId: "somebody" });
  });
}

// The client's numbers are floating-point: what it cannot write goes over a raw socket.

test("json: what comes back is the same text", async (t) => {
  const socket = await openHub(t, one);
  for (const text of ["1.0", "-0", "1e400", "12345678901234567890123", '{"b":1,"a":[1.50,{"x":null}],"b":2}', '"\\u0041\\/"']) {
    socket.send(`{"type":1,"invocationId":"7","target":"Echo","arguments":[${text}]}${RECORD_SEPARATOR}`);
    assert.equal(await socket.frame(), `{"type":3,"invocationId":"7","result":${text}}`);
  }
});

test("json: 64-bit integers keep all their bits", async (t) => {
  const socket = await openHub(t, one);
  const echo = async (text) => {
    socket.send(`{"type":1,"invocationId":"7","target":"EchoInt64","arguments":[${text}]}${RECORD_SEPARATOR}`);
    return socket.frame();
  };
  for (const text of ["9223372036854775807", "-9223372036854775808", "9007199254740993"]) {
    assert.equal(await echo(text), `{"type":3,"invocationId":"7","result":${text}}`);
  }
  for (const text of ["9223372036854775808", "-9223372036854775809", "1.0", "1e2"]) {
    assert.equal(await echo(text), `{"type":3,"invocationId":"7","error":"Failed to invoke 'EchoInt64' due to an error on the server."}`);
  }
});

test("messagepack: 64-bit integers keep all their bits", async (t) => {
  const socket = await openHub(t, one, { protocol: "messagepack" });
  const echo = async (argument) => {
    // [1, {}, "7", "EchoInt64", [argument]]
    socket.sendBody(Buffer.concat([Buffer.from([0x95, 1, 0x80, 0xa1]), Buffer.from("7"), Buffer.from([0xa9]), Buffer.from("EchoInt64"), Buffer.from([0x91]), argument]));
    return socket.frame();
  };
  const integer = (kind, hex) => Buffer.from(kind + hex, "hex");
  const completion = Buffer.from([0x95, 3, 0x80, 0xa1, 0x37, 3]); // [3, {}, "7", 3, …
  for (const hex of ["7fffffffffffffff", "8000000000000000", "0020000000000001"]) {
    const answer = await echo(integer("d3", hex));
    assert.deepEqual(answer.subarray(0, completion.length), completion);
    const result = answer.subarray(completion.length);
    assert(result[0] === 0xd3 || (result[0] === 0xcf && !(result[1] & 0x80)), `${result.toString("hex")} is no such integer`);
    assert.equal(result.subarray(1).toString("hex"), hex);
  }
  const failed = Buffer.from([0x95, 3, 0x80, 0xa1, 0x37, 1]); // an error
  for (const argument of [integer("cf", "8000000000000000"), integer("cb", "3ff0000000000000")]) {
    const answer = await echo(argument);
    assert.deepEqual(answer.subarray(0, failed.length), failed);
    assert(answer.includes("Failed to invoke 'EchoInt64' due to an error on the server."));
  }
});
