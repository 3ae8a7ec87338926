// Runs in the page of another origin.

/* global signalR */

/** A connection to the chat hub, and what came over it. */
globalThis.open = async (name, { url, token, transport, protocol, skipNegotiation = false }) => {
  const hubProtocol = protocol === "messagepack" ? new signalR.protocols.msgpack.MessagePackHubProtocol() : new signalR.JsonHubProtocol();
  const connection = new signalR.HubConnectionBuilder()
    .withUrl(`${url}/chat`, { accessTokenFactory: () => token, transport: signalR.HttpTransportType[transport], skipNegotiation })
    .withHubProtocol(hubProtocol)
    .configureLogging(signalR.LogLevel.Warning)
    .build();
  const received = [];
  for (const method of ["Send", "ReceiveMessage"]) connection.on(method, (text) => { received.push(text); });
  await connection.start();
  globalThis[name] = { connection, received };
};
