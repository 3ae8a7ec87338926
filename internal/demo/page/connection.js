const { HubConnectionBuilder, HubConnectionState, LogLevel } = globalThis.signalR;

/** Pauses before tries to reconnect, in milliseconds; the last one again and again. */
const pauses = [0, 1000, 2000, 5000];

/** An error whose message is for the person at the page. */
export class Problem extends Error {}

/**
 * One connection to the chat hub, under one user. Its events are
 *
 *   change      state, problem, id or groups are not what they were
 *   invocation  detail: {method, args, outcome}, where outcome is a promise
 *   message     detail: {method, text}
 *   lost        detail: {id}; it will try to come back
 *   returned    detail: {id, was}; it is back with a new id, and about to join its groups again
 *   failed      detail: {problem}; it could not join a group that was waiting for it
 */
export class Connection extends EventTarget {
  user;
  id = null;
  /** "connecting", "connected", "reconnecting", "disconnected", or for good "closed". */
  state = "connecting";
  /** Why it is not connected and what comes next, for the person. */
  problem = "";
  /**
   * The groups that the person wants it to be in, each "joining", "joined", "leaving", or
   * "waiting" for the connection to be back.
   */
  groups = new Map();
  #hub;
  #lostID = null;

  constructor(user) {
    super();
    this.user = user;
    this.#hub = new HubConnectionBuilder()
      .withUrl("chat", { accessTokenFactory: () => tokenOf(user) })
      .withAutomaticReconnect({ nextRetryDelayInMilliseconds: (context) => this.#pauseBefore(context) })
      .configureLogging(LogLevel.None) // the page tells what happens, in words
      .build();
    for (const method of ["Send", "ReceiveMessage"]) {
      this.#hub.on(method, (text) => {
        this.id = this.#hub.connectionId; // messages may come before start() resolves
        this.#tell("message", { method, text: String(text) });
      });
    }
    this.#hub.onreconnecting(() => this.#lost("reconnecting", this.problem));
    this.#hub.onreconnected(() => this.#returned());
    this.#hub.onclose((error) => this.#lost("disconnected", `The node closed the connection.${error ? ` It said: ${wordsFor(error)}` : ""}`));
  }

  /** Connects, and joins the groups that are waiting for it. It tells of what fails by its state. */
  async open() {
    this.#become("connecting");
    try {
      await this.#hub.start();
    } catch (error) {
      if (this.state !== "closed") this.#become("disconnected", `Could not connect. ${wordsFor(error)}`);
      return;
    }
    this.id = this.#hub.connectionId;
    this.#become("connected");
    await this.#enterWaiting();
  }

  /** Ends it for good. */
  async close() {
    this.#become("closed");
    await this.#hub.stop();
  }

  /** Joins a group, at once or, before it has ever been connected, as soon as it is. */
  async join(group) {
    if (this.groups.has(group)) throw new Problem(`This connection is already in the group ${group}.`);
    if (this.state === "connecting") return this.#mark(group, "waiting");
    this.#mustBeConnected();
    await this.#enter(group);
  }

  async leave(group) {
    if (this.state !== "connected") {
      this.#mark(group, null); // the membership has ended already
      return;
    }
    this.#mark(group, "leaving");
    try {
      await this.#invoke("RemoveFromGroup", group);
    } catch (error) {
      if (this.state !== "connected") return;
      this.#mark(group, "joined");
      throw error;
    }
    this.#mark(group, null);
  }

  async sendToGroup(group, text) {
    this.#mustBeConnected();
    await this.#invoke("SendToGroup", group, text);
  }

  async sendToUser(user, text) {
    this.#mustBeConnected();
    await this.#invoke("SendPrivateMessage", user, text);
  }

  async #enterWaiting() {
    const waiting = [...this.groups].filter(([, membership]) => membership === "waiting");
    await Promise.all(waiting.map(([group]) => this.#enter(group).catch(({ message }) => this.#tell("failed", { problem: message }))));
  }

  async #enter(group) {
    this.#mark(group, "joining");
    try {
      await this.#invoke("AddToGroup", group);
    } catch (error) {
      if (this.state !== "connected") return; // by now it is waiting
      this.#mark(group, null);
      throw error;
    }
    this.#mark(group, "joined");
  }

  async #invoke(method, ...args) {
    const outcome = this.#hub.invoke(method, ...args).catch((error) => {
      const answered = this.#hub.state === HubConnectionState.Connected;
      throw new Problem(answered ? `The node could not do it. ${wordsFor(error)}`
        : "The connection was lost before the node answered, so it may or may not have been done.");
    });
    this.#tell("invocation", { method, args, outcome });
    await outcome;
  }

  #pauseBefore({ previousRetryCount }) {
    const pause = pauses[Math.min(previousRetryCount, pauses.length - 1)];
    const next = pause === 0 ? "Trying again." : `Next try in ${pause / 1000} s.`;
    this.problem = `The connection to the node is lost. ${next}`;
    this.#changed();
    return pause;
  }

  #lost(state, problem) {
    if (this.state === "closed") return;
    for (const [group, membership] of this.groups) {
      if (membership === "leaving") this.groups.delete(group);
      else this.groups.set(group, "waiting");
    }
    this.#lostID = this.id;
    this.#become(state, problem);
    this.#tell("lost", { id: this.id });
  }

  #returned() {
    this.id = this.#hub.connectionId;
    this.#become("connected");
    this.#tell("returned", { id: this.id, was: this.#lostID });
    this.#enterWaiting();
  }

  #mustBeConnected() {
    switch (this.state) {
      case "connected": return;
      case "connecting": throw new Problem("Not connected yet. Wait a moment, and do it again.");
      case "reconnecting": throw new Problem("Not connected: the connection is lost. Do it again when it is back.");
      default: throw new Problem("Not connected. Choose “Connect again” first.");
    }
  }

  #mark(group, membership) {
    if (membership === null) this.groups.delete(group);
    else this.groups.set(group, membership);
    this.#changed();
  }

  #become(state, problem = "") {
    this.state = state;
    this.problem = problem;
    this.#changed();
  }

  #changed() {
    this.#tell("change");
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }
}

/**
 * Signs in. It is asked anew for every connection: a node that was restarted may not
 * know the tokens of before.
 */
async function tokenOf(user) {
  const response = await fetch("demo/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user }),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(`The node refused to sign in ${user}: ${answer.error ?? `status ${response.status}`}.`);
  return answer.token;
}

function wordsFor(error) {
  const text = String(error?.message ?? error);
  if (/failed to fetch|networkerror|load failed|websocket failed/i.test(text)) return "The node does not answer. Is it running?";
  if (error?.statusCode === 401 || /status code '401'/i.test(text)) return "The node refused the sign-in.";
  if (/status code '503'/i.test(text)) return "The node is leaving and takes no more connections.";
  return text.replace(/^(?:Failed to complete negotiation with the server: |Error: )+/, "");
}
