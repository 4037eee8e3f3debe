// Has things done to the servers and the relay, by the test that started this script. What it can do is in tests/it/page/wish.rs.

import { connect } from "node:net";
import { createInterface } from "node:readline";

import { needed } from "./environment.mjs";

const socket = connect(Number(needed("PAGE_CONTROL")), "127.0.0.1");
const waiting = [];
let ended = false;

createInterface({ input: socket }).on("line", (line) => {
  const { answer, error } = JSON.parse(line);
  const { resolve, reject } = waiting.shift();
  if (error === undefined) resolve(answer);
  else reject(new Error(error));
});
// The servers have ended with the test.
socket.on("close", () => ended || process.exit(1));
socket.on("error", () => process.exit(1));

/** Answers are in the order of the wishes. */
export function ask(wish) {
  return new Promise((resolve, reject) => {
    waiting.push({ resolve, reject });
    socket.write(`${JSON.stringify(wish)}\n`);
  });
}

export const publish = (messages, times = 1) => ask({ do: "publish", messages: [messages].flat(), times });

export const flow = (message, rate) => ask({ do: "flow", message, rate });

export const endFlow = () => ask({ do: "flow", message: { subject: "", payload: "" }, rate: 0 });

export function end() {
  ended = true;
  socket.destroy();
}
