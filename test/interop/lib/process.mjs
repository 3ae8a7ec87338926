// Server processes that a test starts: on loopback, and ended by their own pid.

import { spawn } from "node:child_process";
import net from "node:net";

import { settled } from "./wait.mjs";

const running = new Set();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/**
 * Finds a port that nobody listens on. It is below those that the system gives to
 * outgoing connections, so that nobody takes it while its server is restarted.
 */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    if (await canListen(port)) return port;
  }
}

function canListen(port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
}

/** One run of a program. */
export class Child {
  #process;
  #output = "";
  #watchers = new Set();

  /** Resolves to {code, signal} when the program has ended and all it wrote is read. */
  ended;

  constructor(name, file, args, env = {}) {
    this.name = name;
    this.#process = spawn(file, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    running.add(this.#process);
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => {
        this.#output += text;
        for (const look of this.#watchers) look();
      });
    }
    this.ended = new Promise((resolve) => {
      this.#process.on("error", (error) => {
        this.#output += `${error}\n`;
        resolve({ code: -1, signal: null });
      });
      this.#process.on("close", (code, signal) => {
        running.delete(this.#process);
        resolve({ code, signal });
      });
    });
  }

  /** All that it has written. */
  get output() {
    return this.#output;
  }

  /** Resolves to the match once the output has one, or rejects if the program ends first. */
  async says(pattern) {
    const match = new Promise((resolve) => {
      const look = () => {
        const found = pattern.exec(this.#output);
        if (!found) return;
        this.#watchers.delete(look);
        resolve(found);
      };
      this.#watchers.add(look);
      look();
    });
    const end = this.ended.then(({ code, signal }) => {
      throw new Error(`${this.name} ended (${signal ?? code}) before it said ${pattern}:\n${this.#output}`);
    });
    return settled(`${this.name} says ${pattern}`, Promise.race([match, end]));
  }

  signal(signal) {
    this.#process.kill(signal);
  }

  /** Sends a signal and waits for the end. */
  async end(signal) {
    this.signal(signal);
    return settled(`${this.name} ends after ${signal}`, this.ended);
  }
}
