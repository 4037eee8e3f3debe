// What arrives each second, and what came before. One connection for the whole page.

import { batch, type Signal, signal } from '@preact/signals';
import { type ApiError, askForToken, get, problemOf, stream, token } from './api';
import { Ring, total } from './ring';
import { FIELDS, type History, type Mark, type ModuleStatus, type Sample, type SampleEvent, type Status } from './types';

export interface Live {
  readonly name: string;
  readonly module: Signal<ModuleStatus>;
  readonly ring: Ring;
  sample: Sample | null;
}

export const STEP = 5;
const SILENT_MS = 3000;
/** A connection that is silent for so long is given up. */
const GIVEN_UP_MS = 8000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
/** The views are drawn at most so often, however fast samples come. */
const DRAW_MS = 250;
const MOST_MARKS = 200;

export const status = signal<Status | null>(null);
/** The names of the modules, in their order. */
export const names = signal<readonly string[]>([]);
/** Counts the draws: who reads it is drawn again. */
export const tick = signal(0);
/** Changes every five seconds, for orders that should not jump about. */
export const beat = signal(0);
export const marks = signal<readonly Mark[]>([]);
/** When the relay was last heard, if it is silent. Seconds since 1970. */
export const silentSince = signal<number | null>(null);
/** Why the status cannot be read: usually the token is missing. */
export const trouble = signal<ApiError | null>(null);
/** Changes in a hidden tab too, for its title. */
export const ready = signal<boolean | null>(null);
/** Counts the connections that brought a sample. After each one, what was missed has to be asked for. */
export const connections = signal(0);

export const modules = new Map<string, Live>();
export const all = new Ring(STEP);
/** The time of the newest sample, by the relay's clock. */
export let now = Date.now() / 1000;
/** The sum of all modules. */
export let sum: Sample | null = null;

type Listener = (event: SampleEvent) => void;
const listeners = new Set<Listener>();

/** Calls `listener` for every sample. Returns what ends that. */
export function listen(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

let newest: Status | null = null;
let drawn = 0;
let drawing: ReturnType<typeof setTimeout> | undefined;
/** When a sample came last, by the clock of this machine. */
let sampled = Date.now();
/** When anything came last over this connection, or when it began. */
let heard = 0;
let attempt = new AbortController();

function receive(event: SampleEvent): void {
  sampled = Date.now();
  silentSince.value = null;
  trouble.value = null;
  ready.value = event.status.ready;
  now = event.time;
  newest = event.status;
  const samples = new Map(Object.entries(event.samples));
  const present = new Set<string>();
  for (const module of newest.modules) {
    present.add(module.name);
    const live = ensure(module);
    live.sample = samples.get(module.name) ?? null;
    if (live.sample) live.ring.add(now, live.sample);
  }
  for (const name of modules.keys()) if (!present.has(name)) modules.delete(name);
  sum = total(samples.values());
  all.add(now, sum);
  addMarks(event.marks);
  for (const listener of listeners) listener(event);
  draw();
}

function ensure(module: ModuleStatus): Live {
  let live = modules.get(module.name);
  if (!live) {
    live = { name: module.name, module: signal(module), ring: new Ring(STEP), sample: null };
    modules.set(module.name, live);
  }
  return live;
}

/** The page is drawn soon, unless nobody sees it. */
function draw(): void {
  if (drawing !== undefined || document.hidden) return;
  const wait = Math.max(0, drawn + DRAW_MS - performance.now());
  drawing = setTimeout(() => {
    drawing = undefined;
    drawn = performance.now();
    batch(publish);
  }, wait);
}

function publish(): void {
  if (!newest) return;
  const list = newest.modules.map((module) => module.name);
  if (list.join('\n') !== names.peek().join('\n')) names.value = list;
  for (const module of newest.modules) {
    const live = modules.get(module.name);
    if (live) live.module.value = module;
  }
  status.value = newest;
  beat.value = Math.floor(now / STEP);
  tick.value += 1;
}

export function addMarks(more: readonly Mark[]): void {
  if (more.length === 0) return;
  const known = new Set(marks.peek().map((mark) => `${mark.id} ${mark.time}`));
  const fresh = more.filter((mark) => !known.has(`${mark.id} ${mark.time}`));
  if (fresh.length === 0) return;
  marks.value = [...marks.peek(), ...fresh].sort((a, b) => a.time - b.time || a.id - b.id).slice(-MOST_MARKS);
}

/** Puts the columns of a history into rings. */
export function unroll(history: History, ringOf: (name: string) => Ring | undefined, sums?: Ring): void {
  const totals = sums ? history.times.map((): Sample[] => []) : [];
  for (const module of history.modules) {
    const ring = ringOf(module.name);
    history.times.forEach((time, index) => {
      const sample = Object.fromEntries(FIELDS.map((field) => [field, module[field]?.[index] ?? null])) as Sample;
      ring?.fill(time, sample);
      totals[index]?.push(sample);
    });
  }
  if (sums) totals.forEach((samples, index) => sums.fill(history.times[index], total(samples)));
  addMarks(history.marks);
}

async function remember(signal: AbortSignal): Promise<void> {
  const history = await get<History>(`history?step=${STEP}`, { signal, ask: false });
  unroll(history, (name) => modules.get(name)?.ring, all);
  draw();
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function tokenOtherThan(used: string): Promise<void> {
  return new Promise((resolve) => {
    const end = token.subscribe((value) => {
      if (value === used) return;
      queueMicrotask(() => end());
      resolve();
    });
  });
}

/** Listens for as long as the page is open. */
export async function run(): Promise<void> {
  setInterval(watch, 500);
  document.addEventListener('visibilitychange', draw);
  let wait = FIRST_PAUSE_MS;
  for (;;) {
    attempt = new AbortController();
    heard = Date.now();
    const used = token.peek();
    const problem = await connect(attempt.signal, () => (wait = FIRST_PAUSE_MS)).catch(problemOf);
    attempt.abort();
    if (problem?.needsToken) {
      trouble.value = problem;
      askForToken(problem.message);
      await tokenOtherThan(used);
      continue;
    }
    if (problem && problem.status > 0) trouble.value = problem;
    await pause(wait);
    wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
  }
}

async function connect(signal: AbortSignal, connected: () => void): Promise<null> {
  let first = true;
  const emit = (name: string, data: string) => {
    if (name !== 'sample') return;
    receive(JSON.parse(data) as SampleEvent);
    if (!first) return;
    first = false;
    connected();
    connections.value += 1;
    // The rings are there now. Without a history, the charts begin here.
    remember(signal).catch(() => undefined);
  };
  await stream('events', emit, { signal, ask: false, arrived: () => (heard = Date.now()) });
  return null;
}

function watch(): void {
  if (Date.now() - sampled > SILENT_MS && !trouble.peek()?.needsToken) silentSince.value = sampled / 1000;
  if (Date.now() - heard > GIVEN_UP_MS) attempt.abort();
}
