// Clients as their users write them, with the official package.

import { HttpTransportType, HubConnectionBuilder, HubConnectionState, JsonHubProtocol, LogLevel } from "@microsoft/signalr";
import { MessagePackHubProtocol } from "@microsoft/signalr-protocol-msgpack";

import { userToken } from "./token.mjs";
import { deferred, settled } from "./wait.mjs";

/** The hub protocols, by name. */
export const protocols = {
  json: () => new JsonHubProtocol(),
  messagepack: () => new MessagePackHubProtocol(),
};

/** All methods that any hub invokes on clients. */
const CLIENT_METHODS = ["Message", "Item", "Disconnected", "Send", "ReceiveMessage"];

/**
 * Connects a client to a node or a balancer, for as long as the test runs; without a
 * test, until either end closes it.
 *
 * Options: path; protocol and transport, by name; user, or token; skipNegotiation;
 * reconnect, the delays of automatic reconnect in ms; keepAlive, the interval of pings
 * in ms; stateful, whether it asks for stateful reconnect.
 */
export async function connect(test, { url }, options = {}) {
  const client = new Client(url, options);
  test?.after(() => client.stop());
  await client.start();
  return client;
}

/** A client that has not started yet. */
export class Client {
  #connection;
  #log = [];
  #markers = new Set();
  #watchers = new Set();
  #closed = deferred();

  constructor(url, { path = "/hub", protocol = "json", hubProtocol = protocols[protocol](), user, token, transport, skipNegotiation = false, reconnect, keepAlive, stateful = false } = {}) {
    const bearer = token ?? (user === undefined ? undefined : userToken(user));
    const builder = new HubConnectionBuilder()
      .withUrl(url + path, {
        ...(bearer !== undefined && { accessTokenFactory: () => bearer }),
        ...(transport !== undefined && { transport: HttpTransportType[transport] }),
        ...(skipNegotiation && { skipNegotiation, transport: HttpTransportType.WebSockets }),
      })
      .withHubProtocol(hubProtocol)
      .configureLogging({ log: (level, text) => this.#logged(level, text) });
    if (reconnect) builder.withAutomaticReconnect(reconnect);
    if (stateful) builder.withStatefulReconnect();
    this.#connection = builder.build();
    if (keepAlive) this.#connection.keepAliveIntervalInMilliseconds = keepAlive;
    for (const method of CLIENT_METHODS) {
      this.#connection.on(method, (...args) => this.#received([method, ...args]));
    }
    this.#connection.onclose((error) => this.#closed.resolve(error));
  }

  /** The connection's id; null without negotiation. */
  get id() {
    return this.#connection.connectionId;
  }

  get connected() {
    return this.#connection.state === HubConnectionState.Connected;
  }

  /** Resolves to the error with which the connection ended, or undefined. */
  get closed() {
    return settled("the client's connection closes", this.#closed.promise);
  }

  start() {
    this.#closed = deferred();
    return settled("the client starts", this.#connection.start());
  }

  stop() {
    return settled("the client stops", this.#connection.stop());
  }

  invoke(method, ...args) {
    return settled(`${method} completes`, this.#connection.invoke(method, ...args));
  }

  send(method, ...args) {
    return this.#connection.send(method, ...args);
  }

  /** Reads a stream to its end; returns its items and its error, if it has one. */
  async stream(method, ...args) {
    const items = [], end = deferred();
    this.subscribe(method, args, { next: (item) => items.push(item), error: end.resolve, complete: end.resolve });
    const error = await settled(`the stream of ${method} ends`, end.promise);
    return { items, ...(error && { error: error.message }) };
  }

  /** Starts a stream; returns what can be disposed of to cancel it. */
  subscribe(method, args, subscriber) {
    return this.#connection.stream(method, ...args).subscribe({ next() {}, error() {}, complete() {}, ...subscriber });
  }

  /** Makes the client answer, or just be told, when the hub invokes the method. */
  handle(method, handler) {
    this.#connection.on(method, handler);
  }

  onReconnecting(callback) {
    this.#connection.onreconnecting(callback);
  }

  onReconnected(callback) {
    this.#connection.onreconnected(callback);
  }

  /** What has arrived since the last time, in order, as [method, ...arguments]. */
  take() {
    return this.#log.splice(0);
  }

  /** How many messages have arrived that nobody took. */
  get pending() {
    return this.#log.length;
  }

  /** Waits until what has arrived and was not taken fulfils the predicate. */
  async waitFor(what, predicate) {
    const fulfilled = deferred();
    const look = () => {
      if (predicate(this.#log)) fulfilled.resolve();
    };
    this.#watchers.add(look);
    try {
      look();
      await settled(what, fulfilled.promise);
    } catch (error) {
      error.message += `\nreceived: ${JSON.stringify(this.#log.slice(-20))}`;
      throw error;
    } finally {
      this.#watchers.delete(look);
    }
  }

  /** Waits until the markers have arrived (see Cluster.barrier). */
  async passed(markers) {
    await this.waitFor(`markers arrive: ${markers}`, () => markers.every((marker) => this.#markers.has(marker)));
  }

  #received(entry) {
    const [method, text] = entry;
    // A marker that comes twice is an error like any other message that does.
    if (method === "Message" && /^marker /.test(text) && !this.#markers.has(text)) {
      this.#markers.add(text);
    } else {
      this.#log.push(entry);
    }
    for (const look of this.#watchers) look();
  }

  #logged(level, text) {
    if (level >= LogLevel.Warning && /No client method/.test(text)) this.#received(["unknown method", text]);
  }
}
