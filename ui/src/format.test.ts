import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, clip, count, duration, milliseconds, moment, rate, short, versionOf } from './format';
import { parseHash, to } from './route';

test('numbers are short', () => {
  const rows: [string, string][] = [
    [count(1234567), '1,234,567'],
    [count(null), '–'],
    [rate(0.25), '0.3'],
    [rate(812.4), '812'],
    [short(12_345), '12.3k'],
    [milliseconds(0.834), '0.83 ms'],
    [milliseconds(2500), '2.5 s'],
    [duration(0), '0 s'],
    [duration(0.0123), '12 ms'],
    [duration(250), '4 min 10 s'],
    [duration(3600), '1 h'],
    [duration(200_000), '2 d 7 h'],
    [bytes(1536), '1.5 KiB'],
    [bytes(512 * 1024 * 1024), '512 MiB'],
  ];
  for (const [found, expected] of rows) assert.equal(found, expected);
});

test('a time of today has no date', () => {
  const now = new Date(2026, 11, 1, 15, 0, 0);
  assert.equal(moment(new Date(2026, 11, 1, 3, 4, 5).toISOString(), now.getTime()), '03:04:05');
  assert.equal(moment(new Date(2026, 10, 30, 3, 4, 5).toISOString(), now.getTime()), '30 Nov, 03:04:05');
  assert.equal(moment('soon', now.getTime()), 'soon');
  assert.equal(moment(null), '–');
});

test('a version has twelve digits of each hash', () => {
  assert.equal(versionOf('a'.repeat(64), 'b'.repeat(64)), 'aaaaaaaaaaaa-bbbbbbbbbbbb');
  assert.equal(versionOf(null, null), null);
});

test('long text is cut, and says so', () => {
  assert.equal(clip('x'.repeat(12), 10), `${'x'.repeat(10)}\n… 2 more characters are not shown`);
});

test('any name of a module survives the address', () => {
  for (const name of ['orders', 'a b', 'shop & co?#%', '<img src=x>', '%', 'ä', '__proto__']) {
    const route = parseHash(to.module(name));
    assert.deepEqual([route.view, route.name], ['module', name]);
    assert.equal(parseHash(to.tap(name)).query.get('module'), name);
  }
  assert.equal(parseHash('').view, 'overview');
  assert.equal(parseHash('#/dead-letters?reason=a%26b').query.get('reason'), 'a&b');
  assert.equal(parseHash('#/modules/%E0%A4%A').name, '%E0%A4%A');
  assert.equal(parseHash('#/elsewhere').view, 'unknown');
});
