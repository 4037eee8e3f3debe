// Helpers between the types of transform.wit and JavaScript's own.

/** Returns the payload as text. QuickJS has no TextDecoder. */
export function text(message) {
  const { payload } = message;
  const parts = [];
  // In pieces, because each byte is an argument of the call and the stack is limited.
  for (let at = 0; at < payload.length; at += 4096) {
    parts.push(String.fromCharCode.apply(null, payload.subarray(at, at + 4096)));
  }
  const bytes = parts.join("");
  // Throws if the payload is not UTF-8.
  return /[\x80-\xff]/.test(bytes) ? decodeURIComponent(escape(bytes)) : bytes;
}

/** Returns the value of the payload's JSON. */
export function json(message) {
  return JSON.parse(text(message));
}

/**
 * Returns true if the message has no payload because a key was deleted or expired: in a key-value bucket, or in a
 * stream whose messages expire.
 */
export function isMarker({ headers }) {
  return headers.some(([name, value]) => name === "Nats-Marker-Reason" || (name === "KV-Operation" && value !== "PUT"));
}

/** Returns a publication of `data` for all of `channels`. A Uint8Array stays binary, other data becomes JSON. */
export function publication(channels, data, options = {}) {
  const body = data instanceof Uint8Array ? { tag: "binary", val: data } : { tag: "json", val: JSON.stringify(data) };
  return { channels, body, ...DEFAULTS, ...options };
}

const DEFAULTS = {
  version: null, // up to 2^53 - 1
  versionEpoch: null,
  tags: [], // [name, value] pairs
  idempotencyKey: null, // null: the relay's own key
  delta: false,
  skipHistory: false,
};
