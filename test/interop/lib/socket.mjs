// Raw WebSockets, for what the official client would not do.

import WebSocket from "ws";

import { deferred, settled } from "./wait.mjs";

export const RECORD_SEPARATOR = "\x1e";

const webSocketURL = (url, path, query) => `${url.replace(/^http/, "ws")}${path}${query ? `?${new URLSearchParams(query)}` : ""}`;

const authorization = (token) => (token === undefined ? {} : { Authorization: `Bearer ${token}` });

/**
 * Opens a WebSocket to a node, for as long as the test runs, and sends nothing yet.
 * Options: path, query, token.
 */
export async function open(test, { url }, { path = "/hub", query, token } = {}) {
  const socket = new Socket(new WebSocket(webSocketURL(url, path, query), { headers: authorization(token) }));
  test.after(() => socket.cut());
  await settled("the WebSocket opens", socket.opened);
  return socket;
}

/** Opens a WebSocket and shakes hands. */
export async function openHub(test, node, { protocol = "json", ...options } = {}) {
  const socket = await open(test, node, options);
  await socket.handshake({ protocol, version: 1 });
  return socket;
}

/** Asks for a WebSocket that will be refused; returns the answer. */
export async function refused({ url }, { path = "/hub", query, token } = {}) {
  const socket = new WebSocket(webSocketURL(url, path, query), { headers: authorization(token) });
  const answer = deferred();
  socket.on("open", () => {
    socket.terminate();
    answer.reject(new Error("the WebSocket was opened"));
  });
  socket.on("error", answer.reject);
  socket.on("unexpected-response", (_, response) => {
    const body = [];
    response.on("data", (chunk) => body.push(chunk));
    response.on("end", () => answer.resolve({ status: response.statusCode, body: Buffer.concat(body).toString() }));
  });
  return settled("the WebSocket is refused", answer.promise);
}

/** A WebSocket as a stream of hub frames in each direction. */
class Socket {
  #socket;
  #input = Buffer.alloc(0);
  #frames = [];
  #waiting = [];
  #pings = [];
  #closed = deferred();
  #binary = false;

  constructor(socket) {
    this.#socket = socket;
    this.opened = new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    socket.on("message", (data) => {
      this.#input = Buffer.concat([this.#input, Buffer.from(data)]);
      this.#parse();
    });
    socket.on("close", (code) => {
      this.#closed.resolve(code);
      for (const waiting of this.#waiting.splice(0)) waiting.reject(new Error(`the WebSocket closed with ${code}`));
    });
  }

  /** Shakes hands, which must succeed. */
  async handshake(request) {
    this.send(JSON.stringify(request) + RECORD_SEPARATOR);
    const response = await this.frame();
    if (response !== "{}") throw new Error(`handshake answered ${response}`);
    this.#binary = request.protocol === "messagepack";
  }

  /** Sends text or bytes as one WebSocket message. */
  send(data) {
    this.#socket.send(data);
  }

  /** Sends the body of a MessagePack frame. */
  sendBody(body) {
    this.send(Buffer.concat([lengthPrefix(body.length), body]));
  }

  /**
   * The next frame that is not a ping: of JSON the text, of MessagePack the bytes,
   * without what separates it from others.
   */
  frame() {
    if (this.#frames.length > 0) return Promise.resolve(this.#frames.shift());
    const waiting = deferred();
    this.#waiting.push(waiting);
    return settled("a frame arrives", waiting.promise);
  }

  /** Waits for the next ping. */
  ping() {
    const waiting = deferred();
    this.#pings.push(waiting);
    return settled("a ping arrives", waiting.promise);
  }

  /** Waits for the end; returns the close code and the frames before it. */
  async end() {
    const code = await settled("the WebSocket closes", this.#closed.promise);
    return { code, frames: this.#frames.splice(0) };
  }

  /** Closes it as WebSockets are closed. */
  close(code) {
    this.#socket.close(code);
  }

  /** Cuts the TCP connection. */
  cut() {
    this.#socket.terminate();
  }

  #parse() {
    for (let frame = this.#shift(); frame !== undefined; frame = this.#shift()) {
      if (this.#isPing(frame)) {
        for (const waiting of this.#pings.splice(0)) waiting.resolve();
        continue;
      }
      const waiting = this.#waiting.shift();
      if (waiting) waiting.resolve(frame);
      else this.#frames.push(frame);
    }
  }

  /** Takes one frame from the input, if there is a whole one. */
  #shift() {
    if (!this.#binary) {
      const end = this.#input.indexOf(RECORD_SEPARATOR);
      if (end < 0) return undefined;
      const frame = this.#input.toString("utf8", 0, end);
      this.#input = this.#input.subarray(end + 1);
      return frame;
    }
    let length = 0;
    for (let i = 0; i < this.#input.length; i++) {
      length += (this.#input[i] & 0x7f) << (7 * i);
      if (this.#input[i] & 0x80) continue;
      const start = i + 1;
      if (this.#input.length < start + length) return undefined;
      const frame = this.#input.subarray(start, start + length);
      this.#input = this.#input.subarray(start + length);
      return frame;
    }
    return undefined;
  }

  #isPing(frame) {
    return this.#binary ? frame.equals(Buffer.from([0x91, 6])) : frame === '{"type":6}';
  }
}

/** The length of a MessagePack frame, as it stands before it. */
export function lengthPrefix(length) {
  const bytes = [];
  do {
    const more = length > 0x7f ? 0x80 : 0;
    bytes.push((length & 0x7f) | more);
    length >>>= 7;
  } while (length > 0);
  return Buffer.from(bytes);
}
