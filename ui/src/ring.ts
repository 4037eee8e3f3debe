// The last 15 minutes of a module, in a fixed amount of memory.

import { FIELDS, type Field, type Sample } from './types';

export const WINDOW_SECONDS = 900;

/** Of a slot with several samples: the mean of rates, the worst latency, else the newest value. */
const MEANS: ReadonlySet<Field> = new Set<Field>(['received', 'published', 'rejected']);
const WORST: ReadonlySet<Field> = new Set<Field>(['latency_p99_ms']);

export type Columns = { times: number[]; values: (number | null)[][] };

export class Ring {
  /** When the slot begins. A slot of another time is empty. */
  private readonly times: Float64Array;
  /** How many live samples are in the slot. */
  private readonly counts: Uint32Array;
  private readonly values: Record<Field, Float64Array>;
  private newest = 0;

  constructor(readonly step: number) {
    const capacity = Math.ceil(WINDOW_SECONDS / step) + 1;
    this.times = new Float64Array(capacity);
    this.counts = new Uint32Array(capacity);
    const columns = FIELDS.map((field) => [field, new Float64Array(capacity).fill(NaN)]);
    this.values = Object.fromEntries(columns) as Record<Field, Float64Array>;
  }

  /** Adds a sample that has just arrived. */
  add(time: number, sample: Partial<Sample>): void {
    // The relay's clock was put back.
    if (time < this.newest - WINDOW_SECONDS) this.reset();
    const at = this.open(time);
    if (at === null) return;
    // What the history said of this slot may include this sample.
    if (this.counts[at] === 0) this.clear(at);
    this.counts[at] += 1;
    for (const field of FIELDS) {
      const value = sample[field];
      if (typeof value !== 'number') continue;
      const before = this.values[field][at];
      let next = value;
      if (!Number.isNaN(before)) {
        if (MEANS.has(field)) next = before + (value - before) / this.counts[at];
        if (WORST.has(field)) next = Math.max(before, value);
      }
      this.values[field][at] = next;
    }
  }

  /** Adds what the relay remembers. What arrived live stays. */
  fill(time: number, sample: Partial<Sample>): void {
    const at = this.open(time);
    if (at === null || this.counts[at] > 0) return;
    for (const field of FIELDS) {
      const value = sample[field];
      if (typeof value === 'number') this.values[field][at] = value;
    }
  }

  /** Returns the window that ends at `end`, oldest first, with null where nothing is known. */
  columns(fields: readonly Field[], end: number): Columns {
    const last = Math.floor(end / this.step);
    const slots = this.times.length;
    const times = new Array<number>(slots);
    const values = fields.map(() => new Array<number | null>(slots));
    for (let index = 0; index < slots; index += 1) {
      const slot = last - slots + 1 + index;
      const at = ((slot % slots) + slots) % slots;
      times[index] = slot * this.step;
      const there = this.times[at] === slot * this.step;
      fields.forEach((field, column) => {
        const value = there ? this.values[field][at] : NaN;
        values[column][index] = Number.isNaN(value) ? null : value;
      });
    }
    return { times, values };
  }

  private open(time: number): number | null {
    const slot = Math.floor(time / this.step);
    const start = slot * this.step;
    const at = slot % this.times.length;
    if (start < this.newest - (this.times.length - 1) * this.step || this.times[at] > start) return null;
    if (this.times[at] !== start) {
      this.times[at] = start;
      this.counts[at] = 0;
      this.clear(at);
    }
    this.newest = Math.max(this.newest, start);
    return at;
  }

  private reset(): void {
    this.newest = 0;
    this.times.fill(0);
  }

  private clear(at: number): void {
    for (const field of FIELDS) this.values[field][at] = NaN;
  }
}

/** Adds all modules up: rates and backlogs are sums, ages and latencies those of the slowest module. */
export function total(samples: Iterable<Partial<Sample>>): Sample {
  const sum = Object.fromEntries(FIELDS.map((field) => [field, null])) as Sample;
  for (const sample of samples) {
    for (const field of FIELDS) {
      const value = sample[field];
      if (typeof value !== 'number') continue;
      const before = sum[field] ?? 0;
      const worst = field === 'lag_seconds' || field.startsWith('latency');
      sum[field] = worst ? Math.max(before, value) : before + value;
    }
  }
  return sum;
}
