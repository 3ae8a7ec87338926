// A Redis server of the test's own, and the little of its protocol that a test speaks.

import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";

import { Child, freePort } from "./process.mjs";
import { settled } from "./wait.mjs";

export class Redis {
  #directory;
  #child;

  /** Starts a server without persistence on a free port. */
  static async start() {
    const redis = new Redis();
    redis.#directory = await mkdtemp(path.join(os.tmpdir(), "heliograph-redis-"));
    for (let attempt = 1; ; attempt++) {
      redis.port = await freePort();
      try {
        await redis.restart();
        return redis;
      } catch (error) {
        if (attempt === 5 || !/in use/.test(error.message)) throw error;
      }
    }
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts it again, where it was before. */
  async restart() {
    this.#child = new Child(`redis:${this.port}`, "redis-server", [
      "--port", String(this.port), "--bind", "127.0.0.1", "--dir", this.#directory,
      "--save", "", "--appendonly", "no",
    ]);
    await this.#child.says(/Ready to accept connections/);
  }

  /** Cuts it off in the middle of whatever it does. */
  async kill() {
    await this.#child.end("SIGKILL");
  }

  async stop() {
    await this.#child.end("SIGTERM");
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** Runs one command and returns its reply: a string, a number, null or an array. */
  async command(...words) {
    const socket = net.connect(this.port, "127.0.0.1");
    try {
      const reply = new Promise((resolve, reject) => {
        let received = Buffer.alloc(0);
        socket.on("error", reject);
        socket.on("close", () => reject(new Error("Redis closed the connection")));
        socket.on("data", (chunk) => {
          received = Buffer.concat([received, chunk]);
          const parsed = parse(received, 0);
          if (parsed) resolve(parsed.value);
        });
      });
      socket.write(encode(words));
      const value = await settled(`Redis answers ${words[0]}`, reply);
      if (value instanceof Error) throw value;
      return value;
    } finally {
      socket.destroy();
    }
  }

  /** Publishes as a stranger would, and returns how many subscribers there were. */
  publish(channel, message) {
    return this.command("PUBLISH", channel, message);
  }

  /** The channels that anybody subscribes to, sorted. */
  async channels() {
    return (await this.command("PUBSUB", "CHANNELS")).sort();
  }
}

function encode(words) {
  const parts = [Buffer.from(`*${words.length}\r\n`)];
  for (const word of words) {
    const bytes = Buffer.from(word);
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

/** Reads one reply at an offset; returns undefined while it is incomplete. */
function parse(data, at) {
  const end = data.indexOf("\r\n", at);
  if (end < 0) return undefined;
  const line = data.toString("utf8", at + 1, end);
  const next = end + 2;
  switch (String.fromCharCode(data[at])) {
    case "+":
      return { value: line, next };
    case "-":
      return { value: new Error(`Redis: ${line}`), next };
    case ":":
      return { value: Number(line), next };
    case "$": {
      const length = Number(line);
      if (length < 0) return { value: null, next };
      if (data.length < next + length + 2) return undefined;
      return { value: data.toString("utf8", next, next + length), next: next + length + 2 };
    }
    case "*": {
      const value = [];
      let position = next;
      for (let i = 0; i < Number(line); i++) {
        const element = parse(data, position);
        if (!element) return undefined;
        value.push(element.value);
        position = element.next;
      }
      return { value, next: position };
    }
    default:
      throw new Error(`Redis sent ${JSON.stringify(line)}`);
  }
}
