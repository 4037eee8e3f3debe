// Where publications go: from the tap, and from the last messages of each module.

import { type ApiError, getExact, postExact, problemOf, stream } from './api';
import { MOST_CHANNELS } from './arrivals-board';
import { parse } from './json';
import { channelsOf } from './outcome';
import type { Outcome, Tapped, TryMessage } from './types';

/** The most that the relay allows. */
const RATE = 50;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;

/** How far back the page looks for channels. */
const LAST = 10;
const MOST_MODULES = 20;

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Listens to the tap of all modules until `signal` is aborted, or until it would need another token. */
export async function followTap(
  signal: AbortSignal,
  heard: (tapped: Tapped) => void,
  failed: (problem: ApiError | null) => void,
): Promise<void> {
  let wait = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      const emit = (name: string, data: string) => {
        if (name !== 'message' || signal.aborted) return;
        wait = FIRST_PAUSE_MS;
        failed(null);
        heard(parse<Tapped>(data));
      };
      await stream(`tap?rate=${RATE}`, emit, { signal });
    } catch (error) {
      if (signal.aborted) return;
      const problem = problemOf(error);
      failed(problem);
      if (problem?.needsToken) return;
    }
    await pause(wait);
    wait = Math.min(2 * wait, LONGEST_PAUSE_MS);
  }
}

/** Finds the channels of the last messages, which are tried for that: nothing is published. */
export async function recall(modules: readonly string[], signal: AbortSignal, found: (channel: string) => void): Promise<void> {
  const room = Math.ceil(MOST_CHANNELS / Math.min(modules.length, MOST_MODULES));
  for (const module of modules.slice(0, MOST_MODULES)) {
    const channels = new Set<string>();
    const path = `modules/${encodeURIComponent(module)}`;
    const options = { signal, ask: false };
    try {
      const messages = await getExact<TryMessage[]>(`${path}/messages?last=${LAST}`, options);
      for (const message of messages) {
        const outcome = await postExact<Outcome>(`${path}/try`, { message }, options);
        for (const channel of channelsOf(outcome.publications ?? [])) if (channels.size < room) channels.add(channel);
      }
    } catch {
      // What is known by now is enough.
    }
    if (signal.aborted) return;
    // The newest comes last, as if all of them had been seen.
    [...channels].reverse().forEach(found);
  }
}
