// Questions that the hub asks a client.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, protocols } from "./lib/client.mjs";
import { startCluster } from "./lib/cluster.mjs";
import { deferred, settled } from "./lib/wait.mjs";

const cluster = await startCluster();
const [one, two] = cluster.nodes;

const failed = "An unexpected error occurred invoking 'AskClient' on the server.";

for (const protocol of Object.keys(protocols)) {
  test(`${protocol}: a client asks itself`, async (t) => {
    const client = await connect(t, one, { protocol });
    client.handle("Answer", (question) => question.toUpperCase());
    assert.equal(await client.invoke("AskClient", client.id, "who"), "WHO");
    assert.equal(await client.invoke("AskClient", client.id, "again"), "AGAIN");
  });
}

for (const protocol of Object.keys(protocols)) for (const [where, node] of [["the same node", one], ["another node", two]]) {
  test(`${protocol}: a client of ${where} answers`, async (t) => {
    const asker = await connect(t, one, { protocol });
    for (const other of Object.keys(protocols)) {
      const asked = await connect(t, node, { protocol: other });
      asked.handle("Answer", async (question) => `${question}? 42`);
      const questions = Array.from({ length: 50 }, (_, i) => `question ${i}`);
      const answers = await Promise.all(questions.map((question) => asker.invoke("AskClient", asked.id, question)));
      assert.deepEqual(answers, questions.map((question) => `${question}? 42`));
    }
  });

  test(`${protocol}: a client of ${where} fails to answer`, async (t) => {
    const asker = await connect(t, one, { protocol });
    const silent = await connect(t, node, { protocol });
    const angry = await connect(t, node, { protocol });
    const vague = await connect(t, node, { protocol });
    angry.handle("Answer", () => {
      throw new Error("none of your business");
    });
    vague.handle("Answer", () => 42);
    await assert.rejects(asker.invoke("AskClient", silent.id, "?"), { message: `${failed} HubException: Client didn't provide a result.` });
    await assert.rejects(asker.invoke("AskClient", angry.id, "?"), { message: `${failed} HubException: Error: none of your business` });
    await assert.rejects(asker.invoke("AskClient", vague.id, "?"), ({ message }) => message.startsWith(`${failed} HubException: Error trying to deserialize result to `));
    await assert.rejects(asker.invoke("AskClient", "unknown", "?"), { message: failed });
    assert.equal(await asker.invoke("Echo", "goes on"), "goes on");
  });

  test(`${protocol}: a client of ${where} leaves instead of answering`, async (t) => {
    const asker = await connect(t, one, { protocol });
    const asked = await connect(t, node, { protocol });
    const heard = deferred();
    asked.handle("Answer", (question) => {
      heard.resolve(question);
      return new Promise(() => {});
    });
    const answer = assert.rejects(asker.invoke("AskClient", asked.id, "?"), { message: failed });
    assert.equal(await settled("the client is asked", heard.promise), "?");
    await asked.stop();
    await answer;
  });
}
