import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Parser } from './sse';

test('events are whole however the text is cut', () => {
  const text = ': a comment\n\nevent: sample\ndata: {"a":\ndata: 1}\n\ndata:x\r\n\r\nevent: empty\n\nid: 7\ndata: é\n\ndata: unfinished';
  const expected = [
    ['sample', '{"a":\n1}'],
    ['message', 'x'],
    ['message', 'é'],
  ];
  for (let size = 1; size <= text.length; size += 1) {
    const seen: string[][] = [];
    const parser = new Parser((name, data) => seen.push([name, data]));
    for (let at = 0; at < text.length; at += size) parser.feed(text.slice(at, at + size));
    assert.deepEqual(seen, expected, `in pieces of ${size}`);
  }
});

test('an event without an end is given up', () => {
  const parser = new Parser(() => undefined);
  assert.throws(() => {
    for (;;) parser.feed('x'.repeat(1 << 20));
  });
});
