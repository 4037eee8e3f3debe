import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Board, MOST_CHANNELS, MOST_ENTRIES, QUIET_MS } from './arrivals-board';
import type { Mark, Tapped } from './types';

const data = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const tapped = (channel: string, value: unknown, more = {}): Tapped =>
  ({ module: 'orders', version: 'aaaa-bbbb', publications: [{ channels: [channel], data: value, ...more }] }) as unknown as Tapped;
const mark: Mark = { id: 1, time: 5, kind: 'swap', module: 'orders', text: 'swapped' };

function texts(board: Board): string[] {
  board.draw();
  return board.lines.value.map((line) => (line.kind === 'mark' ? line.mark.text : `${line.channel} ${line.text}`));
}

const shown = (board: Board, index = 0) => board.cards.value[index].shown.value;

test('a card shows the newest of its channel, and what has changed', () => {
  let now = 0;
  const board = new Board(() => now);
  assert.deepEqual(board.open('orders:7', true), []);
  board.arrive('orders:7', { data: data({ status: 'paid', total: 9 }) });
  board.draw();
  now = 1000;
  board.arrive('orders:7', { data: data({ status: 'shipped', total: 9 }) });
  board.draw();
  const { count, latest, fresh, changed } = shown(board);
  assert.equal(count, 2);
  assert.deepEqual(latest?.content.fields, [['status', 'shipped'], ['total', '9']]);
  assert.equal(fresh, true);
  assert.deepEqual([...changed], ['status']);
});

test('what is from the past, or comes soon after another, is not highlighted', () => {
  let now = 0;
  const board = new Board(() => now);
  board.open('a', true);
  for (const [at, past, expected] of [[0, true, false], [1000, false, true], [1400, false, false], [2000, false, true]] as const) {
    now = at;
    board.arrive('a', { data: data({ at }), past });
    board.draw();
    assert.equal(shown(board).fresh, expected, `at ${at}`);
  }
});

test('what arrives on a channel without a place is not shown', () => {
  const board = new Board();
  board.arrive('orders:7', { data: data(1) });
  assert.deepEqual(texts(board), []);
});

test('the list begins with the newest, has marks, and is bounded', () => {
  const board = new Board();
  board.open('a', true);
  board.arrive('a', { data: data(1) });
  board.mark(mark);
  board.arrive('a', { data: data(2) });
  assert.deepEqual(texts(board), ['a 2', 'swapped', 'a 1']);
  for (let number = 3; number < 3 * MOST_ENTRIES; number += 1) {
    board.arrive('a', { data: data(number) });
    if (number % 7 === 0) board.draw();
  }
  const all = texts(board);
  assert.equal(all.length, MOST_ENTRIES);
  assert.equal(all[0], `a ${3 * MOST_ENTRIES - 1}`);
  assert.equal(shown(board).count, 3 * MOST_ENTRIES - 1);
});

test('who made it is known if the tap tells it before or after', () => {
  const board = new Board();
  board.open('a', true);
  board.tapped(tapped('a', { id: 1 }, { version: 3 }));
  board.arrive('a', { data: data({ id: 1 }) });
  board.draw();
  const first = { module: 'orders', build: 'aaaa-bbbb', version: '3' };
  assert.deepEqual(shown(board).origin, first);

  board.arrive('a', { data: data({ id: 2 }) });
  board.draw();
  assert.equal(shown(board).origin, null);
  board.tapped(tapped('a', { id: 2 }));
  board.draw();
  assert.deepEqual(shown(board).origin, { ...first, version: null });
  assert.deepEqual(
    board.lines.value.map((line) => line.kind === 'arrival' && line.origin?.version),
    [null, '3'],
  );
});

test('a channel takes the place of one that is quiet, or of none', () => {
  let now = 0;
  const board = new Board(() => now);
  for (let number = 0; number < MOST_CHANNELS; number += 1) board.open(`c${number}`, true);
  assert.equal(board.open('more', true), null);
  board.draw();
  assert.equal(board.unshown.value, 1);
  now = QUIET_MS - 1;
  for (let number = 0; number < MOST_CHANNELS; number += 1) if (number !== 17) board.arrive(`c${number}`, { data: data(1) });
  assert.equal(board.open('more', true), null);
  now = QUIET_MS;
  assert.deepEqual(board.open('more', true), ['c17']);
  assert.equal(board.open('another', true), null);
  assert.equal(board.open('of the past', false), null);
  board.draw();
  assert.equal(board.cards.value.length, MOST_CHANNELS);
  assert.equal(board.unshown.value, 2);
});

test('a channel of the past gives its place to any that is alive', () => {
  const board = new Board(() => 0);
  for (let number = 0; number < MOST_CHANNELS; number += 1) board.open(`c${number}`, number !== 17);
  board.arrive('c17', { data: data(1), past: true });
  assert.deepEqual(board.open('more', true), ['c17']);
});

test('while it is paused it changes nothing, and shows all of it later', () => {
  const board = new Board();
  board.open('a', true);
  board.paused.value = true;
  board.arrive('a', { data: data(1) });
  board.arrive('a', { data: data(2) });
  assert.deepEqual(texts(board), []);
  board.paused.value = false;
  assert.deepEqual(texts(board), ['a 2', 'a 1']);
});

test('while it is paused it can be cleared', () => {
  const board = new Board();
  board.open('a', true);
  board.arrive('a', { data: data(1) });
  board.draw();
  board.paused.value = true;
  board.clear();
  assert.deepEqual([board.lines.value.length, shown(board).count], [0, 0]);
});

test('a refused channel says why', () => {
  const board = new Board();
  board.open('nowhere:1', true);
  board.state('nowhere:1', 'refused', '102');
  board.draw();
  assert.deepEqual([shown(board).state, shown(board).note], ['refused', '102']);
});

test('nothing is left after it was cleared, but the channels', () => {
  const board = new Board();
  board.open('a', true);
  board.arrive('a', { data: data(1) });
  board.draw();
  board.clear();
  assert.deepEqual([board.lines.value.length, shown(board).count, shown(board).latest], [0, 0, null]);
});
