// Whether the relay knows where browsers reach Centrifugo. Only then there is something to see arrive.

import { effect, signal } from '@preact/signals';
import { get, problemOf } from './api';
import { connections, names } from './live';
import type { Arrivals } from './types';

/** Null as long as nobody knows. */
export const offered = signal<Arrivals | null>(null);

/** Asks after each connection to the relay, whose configuration may have changed, and when modules come or go. */
export function followOffer(): void {
  effect(() => {
    names.value;
    if (connections.value === 0) return;
    get<Arrivals>('arrivals', { ask: false }).then(
      (answer) => (offered.value = answer),
      (error) => {
        if (problemOf(error)?.status === 404) offered.value = { websocket: null };
      },
    );
  });
}
