// Asks `slipring dev`, and follows what it shows.

import { signal } from '@preact/signals';
import { ApiError, problemOf, token } from './api';
import { parse } from './json';
import { readEvents } from './sse';
import type { Outcome } from './types';

export type Verdict = 'passed' | 'failed' | 'broken' | 'sample';

export interface Line {
  name: string;
  is_case: boolean;
  verdict: Verdict;
  subject: string;
  brief: string;
  changed: boolean;
}

export interface State {
  module: { name: string; wasm: string; kib: number; at: string; how: string } | null;
  build: { state: 'watching' | 'running' } | { state: 'failed'; at: string; error: string; stays: string | null };
  output: string;
  passed: number;
  failed: number;
  entries: Line[];
  revision: number;
  advice: string | null;
  units: { line: string; passed: boolean | null; output: string | null } | null;
  note: { text: string; is_trouble: boolean } | null;
}

export interface Detail {
  name: string;
  is_case: boolean;
  verdict: Verdict;
  message: string;
  error: string | null;
  outcome: Outcome | null;
  difference: { signs: string; old: string; new: string } | null;
  output: string[];
}

export const state = signal<State | null>(null);

/** Set while `slipring dev` does not answer, or refuses the token. */
export const trouble = signal<ApiError | null>(null);

/** How long it waits until it connects again, in milliseconds. */
const PAUSE = 1000;

async function request(path: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = { authorization: `Bearer ${token.value}` };
  if (body !== undefined) {
    headers['slipring-command'] = '1';
    headers['content-type'] = 'application/json';
  }
  let response: Response;
  try {
    const method = body === undefined ? 'GET' : 'POST';
    const text = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(`api/v1/${path}`, { method, headers, body: text, cache: 'no-store' });
  } catch {
    throw new ApiError(0, '`slipring dev` does not answer. If it has ended, start it again and open the address that it shows.');
  }
  if (response.ok) return response;
  const text = (await response.text().catch(() => '')).trim();
  throw new ApiError(response.status, text || `The answer has the status ${response.status}.`);
}

export async function detailOf(name: string): Promise<Detail> {
  const response = await request(`entry?name=${encodeURIComponent(name)}`);
  // No digit of a payload may be lost.
  return parse<Detail>(await response.text());
}

/** Runs a message, and returns the name under which the list will have it. */
export async function run(name: string | null, text: string): Promise<string> {
  const response = await request('try', { name, text });
  return ((await response.json()) as { name: string }).name;
}

export async function command(path: 'save' | 'accept' | 'run', body: Record<string, string>): Promise<void> {
  await request(path, body);
}

/** Follows the state for as long as the page is open. */
export async function follow(): Promise<never> {
  for (;;) {
    try {
      if (!token.value) throw new ApiError(401, '');
      const response = await request('events');
      trouble.value = null;
      await readEvents(response, (name, data) => {
        if (name === 'state') state.value = JSON.parse(data) as State;
      });
      trouble.value = new ApiError(0, '`slipring dev` has ended.');
    } catch (error) {
      trouble.value = problemOf(error);
    }
    // A wrong token stays wrong.
    const refused = token.value;
    do await new Promise((resolve) => setTimeout(resolve, PAUSE));
    while (trouble.value?.status === 401 && token.value === refused);
  }
}
