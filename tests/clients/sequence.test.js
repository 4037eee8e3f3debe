import assert from "node:assert/strict";
import { test } from "node:test";

import { Sequences, expand } from "./sequence.js";

function violations(numbers, first) {
  const sequences = new Sequences(first);
  return numbers.map((number) => sequences.see("a", number)).filter((violation) => violation !== null);
}

test("an unbroken sequence is fine, from any first number or from the one that is due", () => {
  assert.deepEqual(violations([4, 5, 6]), []);
  assert.deepEqual(violations([1, 2, 3], 1), []);
});

test("a gap, a repeat, an inversion and a wrong start are seen", () => {
  assert.match(violations([1, 2, 4])[0], /4 arrived where 3 was due: missing/);
  assert.match(violations([1, 2, 2])[0], /2 arrived where 3 was due: twice/);
  assert.equal(violations([1, 3, 2]).length, 2);
  assert.match(violations([2, 3], 1)[0], /2 arrived where 1 was due: missing/);
});

test("a publication without a number is seen", () => {
  assert.match(violations([undefined])[0], /without a sequence number/);
  assert.match(violations(["1"])[0], /without a sequence number/);
});

test("channels do not mix", () => {
  const sequences = new Sequences(1);
  assert.equal(sequences.see("a", 1), null);
  assert.equal(sequences.see("b", 1), null);
  assert.equal(sequences.see("a", 2), null);
  assert.deepEqual([sequences.received, sequences.channels], [3, 2]);
});

test("a range of channels is written with braces", () => {
  assert.deepEqual(expand("orders:{9..11}"), ["orders:9", "orders:10", "orders:11"]);
  assert.deepEqual(expand("orders:7"), ["orders:7"]);
});
