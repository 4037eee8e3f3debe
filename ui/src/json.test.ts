import assert from 'node:assert/strict';
import { test } from 'node:test';
import { held, indent, pretty } from './json';
import { mistake } from './json-place';

test('every token stays as it was', () => {
  const text = '{"id":12345678901234567890,"price":1.50,"a":{},"b":[],"c":[1,{"x":"[,\\"}"}]}';
  const laidOut = indent(text);
  assert.equal(
    laidOut,
    '{\n  "id": 12345678901234567890,\n  "price": 1.50,\n  "a": {},\n  "b": [],\n  "c": [\n    1,\n    {\n      "x": "[,\\"}"\n    }\n  ]\n}',
  );
  assert.equal(indent(laidOut), laidOut);
  assert.equal(indent('no JSON {'), 'no JSON {');
});

test('deep JSON is laid out in bounded space', () => {
  const deep = '['.repeat(5000) + ']'.repeat(5000);
  assert.ok(indent(deep).length < 10_000 * 70);
});

test('what would be rounded is not held as a value', () => {
  // Node 20 has no JSON.rawJSON, so it is as in an old browser.
  const rounds = !('rawJSON' in JSON);
  assert.equal(held('{"id": 12345678901234567890}') === null, rounds);
  assert.deepEqual(held(' {"id": [1, 2.5, "x", null]} ')?.value, { id: [1, 2.5, 'x', null] });
  assert.equal(held('{"a": 1, "a": 2}'), null);
  assert.equal(held('nothing'), null);
  assert.equal(pretty({ a: [1] }), '{\n  "a": [\n    1\n  ]\n}');
});

test('a mistake is named with its line', () => {
  for (const good of ['{}', '[]', ' 1 ', '"x"', '{"a": [1, {"b": null}], "c": "\\u00e9"}', '-1.5e3']) {
    assert.equal(mistake(good), null, good);
  }
  for (const [text, place] of [
    ['{\n  "a": 1,\n}', 'line 3, column 1'],
    ['{\n  "a" 1\n}', 'line 2, column 7'],
    ['{"a": yes}', 'line 1, column 7'],
    ['{"a": 1', 'ends too early, in line 1, column 8'],
    ['', 'ends too early, in line 1, column 1'],
    ['[1 2]', 'line 1, column 4'],
    ['{"a": 1} x', 'line 1, column 10'],
    ['[01]', 'line 1, column 2'],
    ["{'a': 1}", 'line 1, column 2'],
  ]) {
    assert.throws(() => JSON.parse(text));
    assert.ok(mistake(text)?.includes(place), `${text}: ${mistake(text)}`);
  }
});
