import assert from 'node:assert/strict';
import { test } from 'node:test';
import { align } from './line-diff';

test('lines that differ stand side by side', () => {
  const { pairs, cut } = align('a\nb\nc\nd', 'a\nx\ny\nc\nd\ne');
  assert.equal(cut, false);
  assert.deepEqual(
    pairs.map(({ left, right, same }) => [left, same ? '=' : '|', right]),
    [
      ['a', '=', 'a'],
      ['b', '|', 'x'],
      [null, '|', 'y'],
      ['c', '=', 'c'],
      ['d', '=', 'd'],
      [null, '|', 'e'],
    ],
  );
});

test('both texts can be read back from the pairs', () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return Math.floor((seed / 2147483648) * below);
  };
  for (let round = 0; round < 300; round += 1) {
    const text = () => Array.from({ length: 1 + random(9) }, () => 'abc'[random(3)]).join('\n');
    const [one, other] = [text(), text()];
    const { pairs } = align(one, other);
    assert.equal(pairs.flatMap(({ left }) => left ?? []).join('\n'), one);
    assert.equal(pairs.flatMap(({ right }) => right ?? []).join('\n'), other);
    for (const { left, right, same } of pairs) assert.ok(same ? left === right : left !== right);
  }
});

test('long texts are cut', () => {
  const long = Array.from({ length: 1000 }, (_, index) => String(index)).join('\n');
  const { pairs, cut } = align(long, long);
  assert.equal(cut, true);
  assert.equal(pairs.length, 400);
});
