import assert from 'node:assert/strict';
import { test } from 'node:test';
import { advice, refusal } from './arrivals-words';

test('a refusal names what is to be changed', () => {
  assert.match(refusal('nowhere:1', 102, 'unknown channel'), /102 unknown channel.*`nowhere`.*`channel\.namespaces`/);
  assert.match(refusal('plain', 102, 'unknown channel'), /no namespace/);
  assert.match(refusal('$orders:1', 103, 'permission denied'), /`allow_subscribe_for_anonymous`.*`orders`/);
  assert.equal(refusal('a:1', 199, 'other'), 'Centrifugo refuses the subscription: 199 other.');
});

test('without a connection, what to check depends on who else has one', () => {
  const lost = { state: 'lost', cause: 'transport closed' } as const;
  assert.match(advice(lost, 'origin', 'connection refused'), /The relay cannot reach Centrifugo either: connection refused/);
  assert.match(advice(lost, 'origin', null), /`client\.allowed_origins`.*`origin`/);
  assert.match(advice({ ...lost, state: 'ended' }, 'origin', null), /without a token/);
});
