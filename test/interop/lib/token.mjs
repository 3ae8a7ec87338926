// JSON Web Tokens, good ones and others.

import { createHmac } from "node:crypto";

export const SECRET = "interop-secret-0123456789-0123456789";

const part = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

const now = () => Math.floor(Date.now() / 1000);

/** A token with the claims, valid for an hour unless they say otherwise. */
export function token(claims, { secret = SECRET, algorithm = "HS256" } = {}) {
  const body = `${part({ alg: algorithm, typ: "JWT" })}.${part({ exp: now() + 3600, ...claims })}`;
  if (algorithm === "none") return `${body}.`;
  const hash = { HS256: "sha256", HS512: "sha512" }[algorithm];
  return `${body}.${createHmac(hash, secret).update(body).digest("base64url")}`;
}

/** A token of the user. */
export const userToken = (user) => token({ sub: user });

/** Tokens that no server may accept, by what is wrong with them. */
export const badTokens = {
  "expired": () => token({ sub: "ada", exp: now() - 1 }),
  "not valid yet": () => token({ sub: "ada", nbf: now() + 60 }),
  "signed with another secret": () => token({ sub: "ada" }, { secret: "another-secret-0123456789-0123456789" }),
  "changed after signing": () => {
    const [header, , signature] = token({ sub: "ada" }).split(".");
    return [header, part({ sub: "ben", exp: now() + 3600 }), signature].join(".");
  },
  "of algorithm none": () => token({ sub: "ada" }, { algorithm: "none" }),
  "of algorithm none, with a signature": () => {
    const [, body, signature] = token({ sub: "ada" }).split(".");
    return [part({ alg: "none", typ: "JWT" }), body, signature].join(".");
  },
  "of another algorithm": () => token({ sub: "ada" }, { algorithm: "HS512" }),
  "no token at all": () => "nonsense",
};
