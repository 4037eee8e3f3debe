// Subscribes with Centrifugo's JavaScript client, which others wrote, and checks that each channel's sequence numbers arrive in
// order, none missing, none twice.
//
//   node receive.js --url ws://127.0.0.1:8000/connection/websocket --channel 'orders:{1..20}' --expect 500
//
// It prints `subscribed` once all subscriptions stand, and a summary at the end. Exit status: 0 if all that was expected came
// and was right, 1 if not, 2 for wrong arguments.

import { parseArgs } from "node:util";

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

import { Sequences, expand } from "./sequence.js";

const { url, channels, expected, field, first, patience } = settings();
const sequences = new Sequences(first);
const violations = [];
const client = new Centrifuge(url, { websocket: WebSocket });
let silence = setTimeout(() => end("nothing arrived"), patience);

client.on("disconnected", ({ code, reason }) => end(`disconnected: ${code} ${reason}`));
client.on("error", ({ error }) => console.error(`error: ${error.message}`));
await Promise.all(channels.map(subscribe));
console.log("subscribed");

function subscribe(channel) {
  const subscription = client.newSubscription(channel);
  subscription.on("publication", ({ data }) => receive(channel, data));
  subscription.on("unsubscribed", ({ code, reason }) => end(`unsubscribed from ${channel}: ${code} ${reason}`));
  subscription.on("error", ({ error }) => console.error(`error: ${channel}: ${error.message}`));
  subscription.subscribe();
  client.connect();
  return subscription.ready();
}

function receive(channel, data) {
  const violation = sequences.see(channel, data?.[field]);
  if (violation) {
    violations.push(violation);
  }
  clearTimeout(silence);
  if (sequences.received >= expected) {
    // What comes too much comes right behind.
    silence = setTimeout(() => end(), 200);
  } else {
    silence = setTimeout(() => end(`nothing arrived for ${patience / 1000} s`), patience);
  }
}

function end(problem) {
  if (sequences.received !== expected) {
    violations.push(`${sequences.received} publications arrived, ${expected} were expected${problem ? ` (${problem})` : ""}`);
  }
  for (const violation of violations.slice(0, 20)) {
    console.error(violation);
  }
  console.log(
    `${sequences.received} of ${expected} publications in ${sequences.channels} channels, ${violations.length} violations`,
  );
  process.exit(violations.length > 0 ? 1 : 0);
}

function settings() {
  try {
    const { values } = parseArgs({
      options: {
        url: { type: "string" },
        channel: { type: "string", multiple: true },
        expect: { type: "string" },
        field: { type: "string", default: "seq" },
        first: { type: "string" },
        patience: { type: "string", default: "20" },
      },
    });
    const number = (name) => {
      const value = Number(values[name]);
      if (!Number.isSafeInteger(value) || value < 0) {
        throw new Error(`--${name} wants a whole number, not ${values[name]}`);
      }
      return value;
    };
    if (!values.url || !values.channel) {
      throw new Error("--url and at least one --channel are needed");
    }
    return {
      url: values.url,
      channels: values.channel.flatMap(expand),
      expected: number("expect"),
      field: values.field,
      first: values.first === undefined ? undefined : number("first"),
      patience: number("patience") * 1000,
    };
  } catch (error) {
    console.error(`${error.message}
usage: node receive.js --url URL --channel CHANNEL… --expect COUNT
       [--field seq]      of the data, that holds the sequence number
       [--first NUMBER]   that each channel begins with; any by default
       [--patience 20]    seconds without a publication before giving up`);
    process.exit(2);
  }
}
