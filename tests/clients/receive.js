// Subscribes with Centrifugo's own JavaScript client and prints what it receives, for a test to judge.
//
//   node receive.js --url ws://127.0.0.1:8000/connection/websocket --channel orders:1001 --channel orders:1002 --expect 500
//
// It prints `subscribed` once all subscriptions are active, then a line for each publication: {"channel":"orders:1001","data":{…}}.
// Exit status: 0 if all came, 1 if fewer came or a subscription ended, 2 for wrong arguments.

import { parseArgs } from "node:util";

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

// Milliseconds without a publication before it gives up.
const PATIENCE = 20_000;

// Milliseconds to wait for an extra publication, which would come right after the last one.
const ONE_TOO_MANY = 500;

const { url, channels, expected } = settings();
let received = 0;
let silence = setTimeout(() => fail("nothing arrived"), PATIENCE);

const client = new Centrifuge(url, { websocket: WebSocket });
client.on("disconnected", ({ code, reason }) => fail(`disconnected: ${code} ${reason}`));
client.on("error", ({ error }) => console.error(`error: ${error.message}`));
client.connect();
await Promise.all(channels.map(subscribe));
console.log("subscribed");

function subscribe(channel) {
  const subscription = client.newSubscription(channel);
  subscription.on("publication", ({ data }) => receive(channel, data));
  subscription.on("unsubscribed", ({ code, reason }) => fail(`unsubscribed from ${channel}: ${code} ${reason}`));
  subscription.on("error", ({ error }) => console.error(`error: ${channel}: ${error.message}`));
  subscription.subscribe();
  return subscription.ready();
}

function receive(channel, data) {
  received += 1;
  console.log(JSON.stringify({ channel, data }));
  clearTimeout(silence);
  silence =
    received < expected
      ? setTimeout(() => fail(`${received} of ${expected} publications arrived`), PATIENCE)
      : setTimeout(() => process.exit(0), ONE_TOO_MANY);
}

function fail(problem) {
  console.error(problem);
  process.exit(1);
}

function settings() {
  try {
    const { values } = parseArgs({
      options: {
        url: { type: "string" },
        channel: { type: "string", multiple: true },
        expect: { type: "string" },
      },
    });
    const expected = Number(values.expect);
    if (!values.url || !values.channel || !Number.isSafeInteger(expected) || expected < 1) {
      throw new Error("--url, at least one --channel and --expect with a number from 1 are needed");
    }
    return { url: values.url, channels: values.channel, expected };
  } catch (error) {
    console.error(`${error.message}\nusage: node receive.js --url URL --channel CHANNEL… --expect COUNT`);
    process.exit(2);
  }
}
