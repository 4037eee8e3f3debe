// Asks the admin API. A request that needs a token opens the dialog for it, and is repeated with what was entered.

import { signal } from '@preact/signals';
import { parse } from './json';
import { readEvents } from './sse';

export class ApiError extends Error {
  constructor(
    /** 0 if there was no answer. */
    readonly status: number,
    message: string,
  ) {
    super(message);
  }

  get needsToken(): boolean {
    return this.status === 401 || (this.status === 403 && /token/i.test(this.message));
  }
}

const KEY = 'slipring-token';
const TIMEOUT_MS = 30_000;

/** The token, which this tab keeps until it is closed. */
export const token = signal(stored());

/** Set while the dialog asks for the token. */
export const asked = signal<{ text: string; answer: (given: boolean) => void } | null>(null);
let asking: Promise<boolean> | null = null;

function stored(): string {
  try {
    return sessionStorage.getItem(KEY) ?? '';
  } catch {
    return '';
  }
}

export function setToken(value: string): void {
  token.value = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Storage is forbidden here, so the token lasts until the page is loaded again.
  }
}

/** Resolves to true when a token was entered, false when the dialog was closed. */
export function askForToken(text: string): Promise<boolean> {
  asking ??= new Promise<boolean>((resolve) => {
    asked.value = { text, answer: resolve };
  }).finally(() => {
    asked.value = null;
    asking = null;
  });
  return asking;
}

interface Options {
  method?: 'GET' | 'POST';
  body?: unknown;
  signal?: AbortSignal;
  /** False: a missing token is an error at once. */
  ask?: boolean;
}

/** Returns the answer if it is a good one. All paths are relative, so the page works behind a prefix. */
export async function request(path: string, options: Options = {}): Promise<Response> {
  const { method = 'GET', body, signal, ask = true } = options;
  for (;;) {
    const used = token.value;
    const headers: Record<string, string> = {};
    if (used) headers.authorization = `Bearer ${used}`;
    if (method === 'POST') headers['slipring-command'] = '1';
    if (body !== undefined) headers['content-type'] = 'application/json';
    let response: Response;
    try {
      const text = body === undefined ? undefined : JSON.stringify(body);
      response = await fetch(`api/v1/${path}`, { method, headers, body: text, signal, cache: 'no-store' });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, 'The relay does not answer.');
    }
    if (response.ok) return response;
    const text = (await response.text().catch(() => '')).trim();
    // Nobody waits for this any more, so nobody is asked for a token.
    signal?.throwIfAborted();
    const problem = new ApiError(response.status, text.slice(0, 2000) || `The answer has the status ${response.status}.`);
    if (!ask || !problem.needsToken) throw problem;
    // Another request may have asked for it meanwhile.
    if (token.value === used && !(await askForToken(problem.message))) throw problem;
  }
}

async function text(path: string, options: Options): Promise<string> {
  const abort = new AbortController();
  const stop = () => abort.abort();
  options.signal?.addEventListener('abort', stop);
  if (options.signal?.aborted) stop();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    // Nobody can answer the dialog in time, so the clock stands still while it is open.
    const wait = () => {
      timer = setTimeout(() => {
        if (asked.value) return wait();
        reject(new ApiError(0, `The relay has not answered for ${TIMEOUT_MS / 1000} s.`));
        stop();
      }, TIMEOUT_MS);
    };
    wait();
  });
  try {
    const answer = request(path, { ...options, signal: abort.signal }).then((response) => response.text());
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', stop);
  }
}

/** Plain numbers, which is fast. */
export async function get<T>(path: string, options: Options = {}): Promise<T> {
  return JSON.parse(await text(path, options)) as T;
}

/** For answers with payloads, where no digit may be lost. */
export async function getExact<T>(path: string, options: Options = {}): Promise<T> {
  return parse<T>(await text(path, options));
}

export async function postExact<T>(path: string, body: unknown, options: Options = {}): Promise<T> {
  return parse<T>(await text(path, { ...options, method: 'POST', body }));
}

/** Returns the sentence that says what was done. */
export async function command(path: string): Promise<string> {
  return (await text(path, { method: 'POST' })).trim();
}

export async function stream(
  path: string,
  emit: (name: string, data: string) => void,
  options: Options & { arrived?: () => void } = {},
): Promise<void> {
  const response = await request(path, options);
  try {
    await readEvents(response, emit, options.arrived);
  } catch (error) {
    // This is how browsers say that a connection broke.
    if (error instanceof TypeError) throw new ApiError(0, 'The connection to the relay was lost.');
    throw error;
  }
}

/** Says what went wrong, or null if the request was stopped on purpose. */
export function problemOf(error: unknown): ApiError | null {
  if (error instanceof DOMException && error.name === 'AbortError') return null;
  if (error instanceof ApiError) return error;
  return new ApiError(0, error instanceof Error ? `The answer cannot be used: ${error.message}` : 'The answer cannot be used.');
}

/** Writes a query. Parts that are not known are left out. An empty one counts: a dead letter may have no reason. */
export function query(parts: Record<string, string | number | null | undefined>): string {
  const list = new URLSearchParams();
  for (const [name, value] of Object.entries(parts)) {
    if (value !== null && value !== undefined) list.set(name, String(value));
  }
  const text = list.toString();
  return text ? `?${text}` : '';
}
