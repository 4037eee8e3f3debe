// Between the types of transform.wit and JavaScript's own.

/** The payload as a text. QuickJS has no TextDecoder. */
export function text(message) {
  const { payload } = message;
  const parts = [];
  // Each byte is an argument of the call, and its stack is bounded.
  for (let at = 0; at < payload.length; at += 4096) {
    parts.push(String.fromCharCode.apply(null, payload.subarray(at, at + 4096)));
  }
  const bytes = parts.join("");
  // Throws if it is not UTF-8.
  return /[\x80-\xff]/.test(bytes) ? decodeURIComponent(escape(bytes)) : bytes;
}

/** The payload as what its JSON says. */
export function json(message) {
  return JSON.parse(text(message));
}

/** True if the message has no payload because a key was deleted or expired, in a key-value bucket or where messages expire. */
export function isMarker({ headers }) {
  return headers.some(([name, value]) => name === "Nats-Marker-Reason" || (name === "KV-Operation" && value !== "PUT"));
}

/** `data` goes to all of `channels`, as JSON, or as it is if it is a Uint8Array. */
export function publication(channels, data, options = {}) {
  const body = data instanceof Uint8Array ? { tag: "binary", val: data } : { tag: "json", val: JSON.stringify(data) };
  return { channels, body, ...DEFAULTS, ...options };
}

const DEFAULTS = {
  version: null, // up to 2^53 - 1
  versionEpoch: null,
  tags: [], // pairs of a name and a value
  idempotencyKey: null, // the relay's own
  delta: false,
  skipHistory: false,
};
