// Clients that do not speak the protocol: handshakes, frames and sizes, byte by byte.

import assert from "node:assert/strict";
import { test } from "node:test";

import { JsonHubProtocol, MessageType, TransferFormat } from "@microsoft/signalr";

import { Client, connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { lengthPrefix, open, openHub, RECORD_SEPARATOR } from "./lib/socket.mjs";

const cluster = await startCluster({ nodes: 1 });
const [node] = cluster.nodes;

const LIMIT_BYTES = 32_768;
const NORMAL_CLOSURE = 1000;

const handshakes = [
  ["unknown protocol", '{"protocol":"xml","version":1}', "The protocol 'xml' is not supported."],
  ["version too high", '{"protocol":"json","version":3}', "The server does not support version 3 of the 'json' protocol."],
  ["version much too high", '{"protocol":"MessagePack","version":9001}', "The server does not support version 9001 of the 'MessagePack' protocol."],
  ["no JSON", "hello", "An unexpected error occurred during connection handshake."],
  ["nothing", "", "An unexpected error occurred during connection handshake."],
  ["no object", "[1]", "An unexpected error occurred during connection handshake."],
  ["no protocol", '{"version":1}', "An unexpected error occurred during connection handshake."],
  ["no version", '{"protocol":"json"}', "An unexpected error occurred during connection handshake."],
  ["version is text", '{"protocol":"json","version":"1"}', "An unexpected error occurred during connection handshake."],
  ["a hub message", '{"type":6}', "An unexpected error occurred during connection handshake."],
];

for (const [title, request, error] of handshakes) {
  test(`handshake refused: ${title}`, async (t) => {
    const socket = await open(t, node);
    socket.send(request + RECORD_SEPARATOR);
    assert.equal(await socket.frame(), JSON.stringify({ error }));
    assert.deepEqual(await socket.end(), { code: NORMAL_CLOSURE, frames: [] });
  });
}

test("handshake refused: too long", async (t) => {
  const socket = await open(t, node);
  socket.send("x".repeat(LIMIT_BYTES + 1));
  assert.equal(await socket.frame(), '{"error":"Handshake was canceled."}');
  assert.deepEqual(await socket.end(), { code: NORMAL_CLOSURE, frames: [] });
});

test("the official client tells why the handshake was refused", async () => {
  class Other extends JsonHubProtocol {
    name = "xml";
    version = 1;
    transferFormat = TransferFormat.Text;
  }
  await assert.rejects(new Client(node.url, { hubProtocol: new Other() }).start(), {
    message: "Server returned handshake error: The protocol 'xml' is not supported.",
  });
});

for (const request of ['{"protocol":"JSON","version":1}', '{"version":2,"protocol":"json","more":[{}]}', '{"protocol":"json","version":0}', '{"protocol":"xml","version":1,"protocol":"json"}']) {
  test(`handshake taken: ${request}`, async (t) => {
    const socket = await open(t, node);
    // In pieces, and with the first invocation right behind.
    const bytes = `${request}${RECORD_SEPARATOR}{"type":1,"invocationId":"1","target":"Echo","arguments":["hi"]}${RECORD_SEPARATOR}`;
    for (const at of [0, 5, 20]) socket.send(bytes.slice(at, { 0: 5, 5: 20 }[at]));
    assert.equal(await socket.frame(), "{}");
    assert.equal(await socket.frame(), '{"type":3,"invocationId":"1","result":"hi"}');
  });
}

// After a message that is none the client is told, and the connection ends. What came
// before it has been done.

const text = (frame) => frame + RECORD_SEPARATOR;
const body = (hex) => {
  const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
  return Buffer.concat([lengthPrefix(bytes.length), bytes]);
};

const kinds = {
  json: {
    call: text('{"type":1,"invocationId":"1","target":"Echo","arguments":["done"]}'),
    answer: '{"type":3,"invocationId":"1","result":"done"}',
    close: '{"type":7,"error":"Connection closed with an error.","allowReconnect":true}',
    malformed: [
      ["empty frame", text("")],
      ["no JSON", text("nonsense")],
      ["half of a message", text('{"type":1,"target":"Echo","argum')],
      ["no object", text("[1]")],
      ["null", text("null")],
      ["no type", text('{"target":"Echo","arguments":[1]}')],
      ["type is text", text('{"type":"1","target":"Echo","arguments":[1]}')],
      ["type is null", text('{"type":null}')],
      ["no target", text('{"type":1,"arguments":[]}')],
      ["empty target", text('{"type":1,"target":"","arguments":[]}')],
      ["target is a number", text('{"type":1,"target":1,"arguments":[]}')],
      ["no arguments", text('{"type":1,"target":"Echo"}')],
      ["arguments are no list", text('{"type":1,"target":"Echo","arguments":{}}')],
      ["id is a number", text('{"type":1,"invocationId":1,"target":"Echo","arguments":[1]}')],
      ["id is null", text('{"type":1,"invocationId":null,"target":"Echo","arguments":[1]}')],
      ["stream ids are no list", text('{"type":1,"invocationId":"1","target":"Echo","arguments":[1],"streamIds":"1"}')],
      ["stream invocation without id", text('{"type":4,"target":"Echo","arguments":[1]}')],
      ["completion with result and error", text('{"type":3,"invocationId":"1","result":1,"error":"x"}')],
      ["trailing comma", text('{"type":6,}')],
      ["MessagePack", body("91 06")],
    ],
  },
  messagepack: {
    call: body("95 01 80 a1 31 a4 4563686f 91 a4 646f6e65"),
    answer: Buffer.from("95038 0a13103a4646f6e65".replaceAll(" ", ""), "hex"),
    close: Buffer.concat([Buffer.from([0x93, 7, 0xd9, 32]), Buffer.from("Connection closed with an error."), Buffer.from([0xc3])]),
    malformed: [
      ["empty frame", body("")],
      ["no list", body("06")],
      ["type is text", body("91 a1 36")],
      ["headers are no map", body("95 01 c0 a1 31 a4 4563686f 91 01")],
      ["id is a number", body("95 01 80 01 a4 4563686f 91 01")],
      ["target is a number", body("95 01 80 a1 31 01 91 01")],
      ["empty target", body("95 01 80 a1 31 a0 91 01")],
      ["cut off", body("95 01 80 a1 31 a4 4563")],
      ["unknown kind of result", body("95 03 80 a1 31 09 01")],
      ["stream invocation without id", body("95 04 80 c0 a4 4563686f 91 01")],
      ["length over 2 GiB", Buffer.from("ffffffff0f", "hex")],
      ["length without end", Buffer.from("ffffffffff", "hex")],
    ],
  },
};

for (const [protocol, { call, answer, close, malformed }] of Object.entries(kinds)) {
  const send = (...args) => Buffer.from(protocols[protocol]().writeMessage({ type: MessageType.Invocation, target: "SendClient", arguments: args }));

  for (const [title, bytes] of malformed) {
    test(`${protocol}: ${title}`, async (t) => {
      const witness = await connect(t, node);
      const socket = await openHub(t, node, { protocol });
      socket.send(Buffer.concat([send(witness.id, "before"), Buffer.from(bytes), send(witness.id, "after")]));
      assert.deepEqual(await socket.end(), { code: NORMAL_CLOSURE, frames: [close] });
      await witness.waitFor("what came before has been done", (log) => log.length > 0);
      await cluster.barrier(witness);
      assert.deepEqual(witness.take(), [["Message", "before"]]);
    });
  }

  test(`${protocol}: a message of unknown type is passed over`, async (t) => {
    const socket = await openHub(t, node, { protocol });
    socket.send(protocol === "json" ? text('{"type":99,"anything":[]}') : body("92 63 90"));
    socket.send(call);
    assert.deepEqual(await socket.frame(), answer);
  });

  test(`${protocol}: answers to nothing and cancellations of nothing are passed over`, async (t) => {
    const socket = await openHub(t, node, { protocol });
    const strays = protocol === "json"
      ? ['{"type":2,"invocationId":"x","item":1}', '{"type":3,"invocationId":"x","result":1}', '{"type":5,"invocationId":"x"}', '{"type":6}', '{"type":8,"sequenceId":4}', '{"type":9,"sequenceId":1}'].map(text)
      : ["94 02 80 a1 78 01", "95 03 80 a1 78 03 01", "93 05 80 a1 78", "91 06", "92 08 04", "92 09 01"].map(body);
    for (const stray of strays) socket.send(stray);
    socket.send(call);
    assert.deepEqual(await socket.frame(), answer);
  });

  test(`${protocol}: frames in pieces, and many in one message`, async (t) => {
    const socket = await openHub(t, node, { protocol });
    for (const byte of Buffer.from(call)) socket.send(Buffer.from([byte]));
    assert.deepEqual(await socket.frame(), answer);
    const many = Math.ceil((3 * LIMIT_BYTES) / call.length);
    socket.send(Buffer.concat(Array.from({ length: many }, () => Buffer.from(call))));
    for (let i = 0; i < many; i++) assert.deepEqual(await socket.frame(), answer);
  });

  test(`${protocol}: a message of the greatest size is taken, a larger one ends the connection`, async (t) => {
    const socket = await openHub(t, node, { protocol });
    const sized = (bytes) => {
      if (protocol === "json") {
        const [head, tail] = ['{"type":1,"invocationId":"1","target":"Echo","arguments":["', `"]}${RECORD_SEPARATOR}`];
        return head + "x".repeat(bytes - head.length - tail.length) + tail;
      }
      const head = Buffer.from("95018 0a131a4 4563686f 91da".replaceAll(" ", ""), "hex");
      const content = Buffer.alloc(bytes - 3 - head.length - 2, "x"); // the prefix has 3 bytes
      const size = Buffer.alloc(2);
      size.writeUInt16BE(content.length);
      const frame = Buffer.concat([head, size, content]);
      return Buffer.concat([lengthPrefix(frame.length), frame]);
    };
    assert.equal(sized(LIMIT_BYTES).length, LIMIT_BYTES);
    socket.send(sized(LIMIT_BYTES));
    assert((await socket.frame()).length > LIMIT_BYTES - 100);
    socket.send(sized(LIMIT_BYTES + 1));
    assert.deepEqual(await socket.end(), { code: NORMAL_CLOSURE, frames: [close] });
  });

  test(`${protocol}: the official client tells of an oversize message`, async (t) => {
    const client = await connect(t, node, { protocol });
    const other = await connect(t, node, { protocol });
    const error = { message: "Server returned an error on close: Connection closed with an error." };
    const answer = client.invoke("Echo", "x".repeat(LIMIT_BYTES));
    await assert.rejects(answer, error);
    assert.equal((await client.closed).message, error.message);
    assert.equal(await other.invoke("Echo", "not concerned"), "not concerned");
  });
}

test("each client protocol of the official package is taken", async (t) => {
  for (const protocol of Object.keys(protocols)) {
    const client = await connect(t, node, { protocol });
    assert.equal(await client.invoke("Echo", protocol), protocol);
  }
});
