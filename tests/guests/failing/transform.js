// Fails in the way that a message's subject names, to see what the relay says of it.

import { json } from "./slipring.js";

export function init(settings) {
  if (settings.includes("fail")) throw new Error(`bad settings: ${settings}`);
  if (settings.includes("bug")) return settngs;
}

export function transform(message) {
  return failures[message.subject](message) ?? [];
}

class Trouble extends Error {
  get name() {
    return "Trouble";
  }
}

const failures = {
  reference: (message) => idd,
  type: (message) => message.customer.name,
  call: (message) => message.total(),
  error: () => {
    throw new Error("no such order");
  },
  lines: () => {
    throw new Error("one\n\ntwo");
  },
  caused: () => {
    throw new Error("cannot read the order", { cause: new TypeError("no") });
  },
  custom: () => {
    throw new Trouble("no such order");
  },
  silent: () => {
    throw new Error();
  },
  string: () => {
    throw "no such order";
  },
  object: () => {
    throw { code: 7 };
  },
  message: () => {
    throw { message: "no such order" };
  },
  nothing: () => {
    throw undefined;
  },
  json: (message) => json(message),
  rejected: () => Promise.reject(new Error("too late")),
  promise: async () => {
    await null;
    throw new Error("too late");
  },
  recursion: () => failures.recursion() + 1,
  memory: () => {
    const all = [];
    for (;;) all.push(new Uint8Array(1 << 20));
  },
  syntax: () => new Function("x = = 1")(),
  evaluated: () => eval("\n\nidd"),
  result: () => 7,
  results: () => [7],
  nested: () => [1].map((x) => [x].forEach(() => x.y.z)),
};
