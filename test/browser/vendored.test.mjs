// The official client that the page loads is the one of the package.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const packaged = new URL("node_modules/@microsoft/signalr/", import.meta.url);
const served = new URL("../../internal/demo/page/signalr/", import.meta.url);

test("the client is the package's, without its source map", async () => {
  const original = await readFile(new URL("dist/browser/signalr.min.js", packaged), "utf8");
  const [code, reference, ...rest] = original.split("\n");
  assert.match(reference, /^\/\/# sourceMappingURL=/);
  assert.deepEqual(rest, []);
  assert.equal(await readFile(new URL("signalr.min.js", served), "utf8"), `${code}\n`);
});

test("the notices are the package's", async () => {
  const [original, copy] = await Promise.all([new URL("src/third-party-notices.txt", packaged), new URL("third-party-notices.txt", served)]
    .map((file) => readFile(file, "utf8")));
  assert.equal(copy, original);
});

test("the version is the one that is written down", async () => {
  const { version } = JSON.parse(await readFile(new URL("package.json", packaged), "utf8"));
  const readme = await readFile(new URL("../../internal/demo/README.md", import.meta.url), "utf8");
  assert(readme.includes(`\`@microsoft/signalr\` ${version}`), `README.md does not name ${version}`);
});
