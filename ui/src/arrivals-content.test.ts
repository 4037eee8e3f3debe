import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contentOf, contentOfTapped } from './arrivals-content';

const bytes = (text: string) => new TextEncoder().encode(text);

test('an object has fields, with texts as they are and other values as JSON', () => {
  const content = contentOf(bytes('{"status": "paid", "total": 9.50, "lines": [1, {"a": null}]}'));
  assert.equal(content.kind, 'json');
  assert.deepEqual(content.fields, [
    ['status', 'paid'],
    ['total', '9.5'],
    ['lines', '[1,{"a":null}]'],
  ]);
});

test('other JSON has no fields', () => {
  for (const text of ['[1,2]', '"a text"', '17', 'null']) {
    assert.deepEqual(contentOf(bytes(text)), { kind: 'json', text, fields: [] });
  }
});

test('what is no JSON is shown as it is, and what is no text in base64', () => {
  assert.deepEqual(contentOf(bytes('{"a":')), { kind: 'text', text: '{"a":', fields: [] });
  assert.deepEqual(contentOf(new Uint8Array()), { kind: 'text', text: '', fields: [] });
  assert.deepEqual(contentOf(new Uint8Array([0xff, 0, 1])), { kind: 'binary', text: '/wAB', fields: [] });
});

test('what is long is cut', () => {
  const long = 'x'.repeat(3 << 20);
  assert.ok(contentOf(bytes(long)).text.length < 30_000);
  assert.ok(contentOf(bytes(JSON.stringify({ long: long.slice(0, 90_000) }))).fields[0][1].length < 1000);
});

test('the tap and the subscriber agree on what was published', () => {
  const data = { id: 7, text: 'a "quoted" <b>' };
  assert.equal(contentOfTapped({ data })?.text, contentOf(bytes(JSON.stringify(data, null, 2))).text);
  assert.equal(contentOfTapped({ binary_base64: '/wAB' })?.text, contentOf(new Uint8Array([0xff, 0, 1])).text);
  assert.equal(contentOfTapped({ data: '{"id', truncated: true }), null);
});
