// Publishes each order to its own channel, as examples/orders does in Rust.

import { json, publication } from "./slipring.js";

const STATUSES = ["draft", "paid", "shipped", "delivered"];

/** `settings` is the [settings] of orders.toml as a JSON text. This module has none. */
export function init(settings) {}

/** Returns the publications. An empty list drops the message. An exception rejects it, with its text as the reason. */
export function transform(message) {
  const { id, revision, status, lines } = json(message);
  if (!STATUSES.includes(status)) throw new Error(`status: \`${status}\` is none of ${STATUSES.join(", ")}`);
  whole("id", id);
  whole("revision", revision);
  if (!Array.isArray(lines)) throw new Error("lines: not a list");
  let items = 0;
  let total_cents = 0;
  for (const { quantity, price_cents } of lines) {
    items += whole("quantity", quantity);
    total_cents += quantity * whole("price_cents", price_cents);
  }
  if (status === "draft") return [];
  return [publication([`orders:${id}`], { status, items, total_cents }, { version: revision })];
}

function whole(name, value) {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name}: ${JSON.stringify(value)} is not a whole number`);
  return value;
}
