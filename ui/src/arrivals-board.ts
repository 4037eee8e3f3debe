// What has arrived: the newest of each channel, and the last of all. It knows nothing of connections.

import { batch, signal, type Signal } from '@preact/signals';
import { type Content, contentOf, contentOfTapped } from './arrivals-content';
import { compact } from './json';
import type { Mark, Tapped } from './types';

export const MOST_CHANNELS = 100;
export const MOST_ENTRIES = 200;
/** How long nothing may have arrived on a channel before another one may take its place, in milliseconds. */
export const QUIET_MS = 10_000;
/** So many outcomes of a channel are remembered, to find out which of them arrived. */
const MOST_ORIGINS = 20;
/** What arrives sooner after another is not highlighted, because it would flicker, in milliseconds. */
const CALM_MS = 500;
/** How much of a publication the list shows, in characters. */
const PREVIEW = 300;

/** Which module made a publication, and with which version of it. */
export interface Origin {
  module: string;
  build: string | null;
  /** The version that the module gave to the publication. */
  version: string | null;
}

export interface Arrival {
  id: number;
  /** Milliseconds since 1970, by the browser's clock. */
  at: number;
  /** It had been published before anybody looked. */
  past: boolean;
  content: Content;
  tags: readonly (readonly [string, string])[];
}

/** What a card shows. */
export interface Shown {
  state: 'subscribing' | 'subscribed' | 'refused';
  /** Why nothing arrives, or what to expect. */
  note: string;
  count: number;
  latest: Arrival | null;
  origin: Origin | null;
  /** It has just arrived, and is worth a highlight. */
  fresh: boolean;
  /** The fields that differ from those before. */
  changed: ReadonlySet<string>;
}

export interface Card {
  readonly channel: string;
  readonly shown: Signal<Shown>;
}

export type Line =
  | { kind: 'mark'; id: number; mark: Mark }
  | { kind: 'arrival'; id: number; channel: string; at: number; past: boolean; text: string; origin: Origin | null };

interface Place extends Card {
  state: Shown['state'];
  note: string;
  count: number;
  latest: Raw | null;
  /** When something was published to it last while somebody looked. */
  touched: number;
  origins: { key: string; origin: Origin }[];
}

interface Raw {
  id: number;
  at: number;
  past: boolean;
  channel: string;
  data: Uint8Array;
  tags: Readonly<Record<string, string>>;
  /** Looked at only when it is drawn, since much may arrive between. */
  content?: Content;
}

export interface Received {
  data: Uint8Array;
  tags?: Readonly<Record<string, string>>;
  past?: boolean;
}

const keyOf = ({ kind, text }: Content): string => `${kind} ${text}`;

const nothing = (): Shown => ({ state: 'subscribing', note: '', count: 0, latest: null, origin: null, fresh: false, changed: new Set() });

export class Board {
  /** The newest channel first. */
  readonly cards = signal<readonly Card[]>([]);
  readonly lines = signal<readonly Line[]>([]);
  /** The last swap or the like, which a line of its own soon leaves behind. */
  readonly event = signal<Mark | null>(null);
  /** How many channels have no place. It counts no more than it can remember. */
  readonly unshown = signal(0);
  readonly paused = signal(false);

  private readonly places = new Map<string, Place>();
  private readonly homeless = new Set<string>();
  private readonly dirty = new Set<Place>();
  private waiting: (Raw | Mark)[] = [];
  /** What a line holds, until it is known who made it. */
  private readonly keys = new Map<number, string>();
  private serial = 0;
  /** A channel has come or gone. */
  private moved = false;

  constructor(private readonly clock: () => number = Date.now) {}

  /** Gives a channel a place. Returns null if there is none, or else the channels that gave theirs up. */
  open(channel: string, live: boolean): string[] | null {
    if (this.places.has(channel)) return [];
    const gone: string[] = [];
    if (this.places.size >= MOST_CHANNELS) {
      // Those of the past take no place from others.
      const quiet = live ? this.quietest() : null;
      if (quiet === null) {
        if (this.homeless.size < 10 * MOST_CHANNELS) this.homeless.add(channel);
        return null;
      }
      this.places.delete(quiet);
      gone.push(quiet);
    }
    this.homeless.delete(channel);
    const place: Place = {
      channel,
      shown: signal(nothing()),
      state: 'subscribing',
      note: '',
      count: 0,
      latest: null,
      touched: live ? this.clock() : -Infinity,
      origins: [],
    };
    this.places.set(channel, place);
    this.moved = true;
    return gone;
  }

  private quietest(): string | null {
    let found: Place | null = null;
    for (const place of this.places.values()) if (!found || place.touched < found.touched) found = place;
    return found && found.touched <= this.clock() - QUIET_MS ? found.channel : null;
  }

  has(channel: string): boolean {
    return this.places.has(channel);
  }

  state(channel: string, state: Shown['state'], note = ''): void {
    const place = this.places.get(channel);
    if (!place) return;
    place.state = state;
    place.note = note;
    this.dirty.add(place);
  }

  arrive(channel: string, { data, tags = {}, past = false }: Received): void {
    const place = this.places.get(channel);
    if (!place) return;
    this.serial += 1;
    const raw: Raw = { id: this.serial, at: this.clock(), past, channel, data, tags };
    place.count += 1;
    place.latest = raw;
    if (!past) place.touched = raw.at;
    this.dirty.add(place);
    this.wait(raw);
  }

  mark(mark: Mark): void {
    this.wait(mark);
  }

  private wait(what: Raw | Mark): void {
    this.waiting.push(what);
    if (this.waiting.length > MOST_ENTRIES) this.waiting.shift();
  }

  /** Remembers who made what. It may arrive before or after. */
  tapped({ module, version, publications = [] }: Tapped): void {
    for (const publication of publications ?? []) {
      const content = contentOfTapped(publication);
      if (!content) continue;
      const number = publication.version;
      const origin: Origin = {
        module,
        build: version ?? null,
        version: number === null || number === undefined ? null : compact(number),
      };
      for (const channel of publication.channels ?? []) {
        const place = this.places.get(channel);
        if (!place) continue;
        place.origins.push({ key: keyOf(content), origin });
        if (place.origins.length > MOST_ORIGINS) place.origins.shift();
        this.dirty.add(place);
      }
    }
  }

  clear(): void {
    for (const place of this.places.values()) {
      place.count = 0;
      place.latest = null;
      this.dirty.add(place);
    }
    this.waiting = [];
    this.keys.clear();
    this.lines.value = [];
    this.refresh();
  }

  /** Shows what has come since the last time. */
  draw(): void {
    if (!this.paused.peek()) this.refresh();
  }

  private refresh(): void {
    batch(() => {
      if (this.moved) this.cards.value = [...this.places.values()].reverse();
      this.moved = false;
      for (const place of this.dirty) this.show(place);
      this.dirty.clear();
      this.list();
      this.unshown.value = this.homeless.size;
    });
  }

  private show(place: Place): void {
    const before = place.shown.peek();
    const latest = place.latest ? arrivalOf(place.latest) : null;
    place.shown.value = {
      state: place.state,
      note: place.note,
      count: place.count,
      latest,
      origin: latest && this.made(place, keyOf(latest.content)),
      ...(latest?.id === before.latest?.id ? { fresh: before.fresh, changed: before.changed } : novelty(before.latest, latest)),
    };
  }

  private list(): void {
    const old = this.lines.peek().map((line) => this.complete(line));
    const event = this.waiting.findLast((what) => 'kind' in what);
    if (event) this.event.value = event as Mark;
    const fresh = this.waiting.map((what) => ('kind' in what ? this.lineOfMark(what) : this.lineOf(what))).reverse();
    this.waiting = [];
    const unchanged = fresh.length === 0 && old.every((line, index) => line === this.lines.peek()[index]);
    if (unchanged) return;
    const lines = [...fresh, ...old];
    for (const { id } of lines.splice(MOST_ENTRIES)) this.keys.delete(id);
    this.lines.value = lines;
  }

  private lineOfMark(mark: Mark): Line {
    this.serial += 1;
    return { kind: 'mark', id: this.serial, mark };
  }

  private lineOf(raw: Raw): Line {
    const { content } = arrivalOf(raw);
    const key = keyOf(content);
    const origin = this.made(this.places.get(raw.channel), key);
    if (!origin) this.keys.set(raw.id, key);
    const text = content.text.length > PREVIEW ? `${content.text.slice(0, PREVIEW)}…` : content.text;
    return { kind: 'arrival', id: raw.id, channel: raw.channel, at: raw.at, past: raw.past, text, origin };
  }

  /** The tap may have told meanwhile who made it. */
  private complete(line: Line): Line {
    if (line.kind !== 'arrival' || line.origin) return line;
    const key = this.keys.get(line.id);
    const origin = key === undefined ? null : this.made(this.places.get(line.channel), key);
    if (!origin) return line;
    this.keys.delete(line.id);
    return { ...line, origin };
  }

  private made(place: Place | undefined, key: string): Origin | null {
    return place?.origins.findLast((made) => made.key === key)?.origin ?? null;
  }
}

function arrivalOf(raw: Raw): Arrival {
  raw.content ??= contentOf(raw.data);
  return { id: raw.id, at: raw.at, past: raw.past, content: raw.content, tags: Object.entries(raw.tags) };
}

function novelty(before: Arrival | null, now: Arrival | null): Pick<Shown, 'fresh' | 'changed'> {
  const fresh = now !== null && !now.past && now.at - (before?.at ?? -Infinity) >= CALM_MS;
  return { fresh, changed: fresh ? difference(before, now) : new Set() };
}

function difference(before: Arrival | null, now: Arrival | null): ReadonlySet<string> {
  const old = new Map(before?.content.fields ?? []);
  const fields = now?.content.fields ?? [];
  return new Set(fields.filter(([name, value]) => old.get(name) !== value).map(([name]) => name));
}
