import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHash, withoutToken } from './route';

test('an address names a view', () => {
  assert.equal(parseHash('#/arrivals').view, 'arrivals');
  assert.equal(parseHash('#/modules/a%20b').name, 'a b');
  assert.equal(parseHash('#/arrivals/more').view, 'unknown');
});

test('a token leaves the address, and nothing else does', () => {
  assert.deepEqual(withoutToken('#/arrivals?token=a%2Bb'), { token: 'a+b', address: '#/arrivals' });
  assert.deepEqual(withoutToken('#/tap?module=orders&token=x'), { token: 'x', address: '#/tap?module=orders' });
  assert.deepEqual(withoutToken('#/?token='), { token: '', address: '#/' });
  for (const address of ['', '#/', '#/tap?module=token', '#/modules/a%3Ftoken=x']) {
    assert.deepEqual(withoutToken(address), { token: null, address });
  }
});
