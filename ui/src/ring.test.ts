import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ring, total } from './ring';

test('a slot has the mean of rates, the worst latency and the newest backlog', () => {
  const ring = new Ring(5);
  ring.add(1000, { published: 10, latency_p99_ms: 7, lag_messages: 1 });
  ring.add(1004.9, { published: 30, latency_p99_ms: 2, lag_messages: 4 });
  ring.add(1005, { published: 1 });
  const { times, values } = ring.columns(['published', 'latency_p99_ms', 'lag_messages'], 1005);
  assert.deepEqual(times.slice(-2), [1000, 1005]);
  assert.deepEqual(values.map((column) => column.slice(-3)), [
    [null, 20, 1],
    [null, 7, null],
    [null, 4, null],
  ]);
});

test('the window moves on, and old slots are empty', () => {
  const ring = new Ring(1);
  for (let time = 5000; time < 8000; time += 1) ring.add(time, { published: time });
  const { times, values } = ring.columns(['published'], 7999);
  assert.equal(times.length, 901);
  assert.equal(values[0][0], 7099);
  assert.equal(values[0][900], 7999);
  assert.deepEqual(ring.columns(['published'], 8200).values[0].slice(-202, -200), [7999, null]);
});

test('history fills what is missing and changes nothing that arrived', () => {
  const ring = new Ring(5);
  ring.add(1010, { published: 1 });
  ring.fill(1010, { published: 99 });
  ring.fill(1005, { published: 5 });
  ring.fill(10, { published: 7 });
  assert.deepEqual(ring.columns(['published'], 1010).values[0].slice(-2), [5, 1]);
  // The slot that the history knows in part is begun anew by the first sample in it.
  ring.fill(1015, { published: 50, rejected: 3 });
  ring.add(1016, { published: 2 });
  assert.deepEqual(ring.columns(['published', 'rejected'], 1015).values.map((column) => column.at(-1)), [2, null]);
});

test('a clock that was put back begins anew', () => {
  const ring = new Ring(5);
  ring.add(900_000, { published: 1 });
  ring.add(1000, { published: 2 });
  assert.equal(ring.columns(['published'], 1000).values[0].at(-1), 2);
});

test('a total adds rates and keeps the slowest', () => {
  const sum = total([
    { published: 1, lag_seconds: 9, latency_p99_ms: 3 },
    { published: 2, lag_seconds: 4, latency_p99_ms: null },
  ]);
  assert.deepEqual([sum.published, sum.lag_seconds, sum.latency_p99_ms, sum.rejected], [3, 9, 3, null]);
});
