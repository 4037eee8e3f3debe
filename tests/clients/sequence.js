// Whether what a client receives is each channel's sequence, in order: none missing, none twice.

export class Sequences {
  #last = new Map();
  #first;
  received = 0;

  // `first`: the number that each channel begins with; undefined if any will do.
  constructor(first) {
    this.#first = first;
  }

  // Takes what `channel` received, and returns what is wrong with it, or null.
  see(channel, number) {
    this.received += 1;
    if (!Number.isSafeInteger(number)) {
      return `${channel}: a publication without a sequence number (${JSON.stringify(number)})`;
    }
    const last = this.#last.get(channel);
    const expected = last === undefined ? this.#first : last + 1;
    this.#last.set(channel, number);
    if (expected === undefined || number === expected) {
      return null;
    }
    const what = number > expected ? "missing" : "twice or out of order";
    return `${channel}: ${number} arrived where ${expected} was due: ${what}`;
  }

  get channels() {
    return this.#last.size;
  }
}

// `orders:{1..3}` stands for orders:1, orders:2 and orders:3; anything else for itself.
export function expand(pattern) {
  const range = /^(.*)\{(\d+)\.\.(\d+)\}(.*)$/.exec(pattern);
  if (!range) {
    return [pattern];
  }
  const [, before, from, to, after] = range;
  const count = Math.max(0, Number(to) - Number(from) + 1);
  return Array.from({ length: count }, (_, n) => `${before}${Number(from) + n}${after}`);
}
