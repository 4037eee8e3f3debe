// Events of the last 15 minutes: a line in each chart, and a list of sentences.

import { useSignal } from '@preact/signals';
import { clock } from './format';
import { now } from './live';
import { WINDOW_SECONDS } from './ring';
import { to } from './route';
import type { Mark } from './types';

export interface Look {
  sign: string;
  word: string;
  /** The name of a colour. */
  tone: string;
}

const LOOKS: Record<string, Look> = {
  started: { sign: '▸', word: 'started', tone: 'muted' },
  swap: { sign: '⇄', word: 'swap', tone: 'accent' },
  rollback: { sign: '↩', word: 'rollback', tone: 'warn' },
  refused: { sign: '⊘', word: 'refused', tone: 'warn' },
  halted: { sign: '■', word: 'halted', tone: 'bad' },
  resumed: { sign: '▸', word: 'resumed', tone: 'ok' },
  failed: { sign: '✕', word: 'failed', tone: 'bad' },
  'nats-lost': { sign: '✕', word: 'NATS lost', tone: 'bad' },
  'nats-back': { sign: '✓', word: 'NATS is back', tone: 'ok' },
  'centrifugo-lost': { sign: '✕', word: 'Centrifugo lost', tone: 'bad' },
  'centrifugo-back': { sign: '✓', word: 'Centrifugo is back', tone: 'ok' },
};

export function lookOf(kind: string): Look {
  return Object.hasOwn(LOOKS, kind) ? LOOKS[kind] : { sign: '•', word: kind, tone: 'muted' };
}

/** Returns what belongs into a chart that ends now. A module has its own marks and those of the whole relay. */
export function recent(marks: readonly Mark[], module?: string): Mark[] {
  const begin = now - WINDOW_SECONDS;
  const concerns = (mark: Mark) => module === undefined || mark.module === null || mark.module === module;
  return marks.filter((mark) => mark.time >= begin && concerns(mark));
}

interface MarkListProps {
  list: readonly Mark[];
  /** How many are shown before somebody asks for all. */
  few?: number;
}

export function MarkList({ list, few = 8 }: MarkListProps) {
  const open = useSignal(false);
  const shown = [...list].reverse().slice(0, open.value ? undefined : few);
  return (
    <section class="panel" aria-labelledby="marks">
      <h2 id="marks">Events of the last 15 minutes</h2>
      {list.length === 0 && <p class="muted">None.</p>}
      <ol class="marks" {...(open.value ? { tabIndex: 0, 'aria-label': 'All events' } : {})}>
        {shown.map((mark) => {
          const look = lookOf(mark.kind);
          return (
            <li key={`${mark.id} ${mark.time}`}>
              <time dateTime={new Date(mark.time * 1000).toISOString()}>{clock(mark.time)}</time>
              <span class={`sign tone-${look.tone}`} aria-hidden="true">
                {look.sign}
              </span>
              <span class="text">
                <b>{mark.module === null ? 'Relay' : <a href={to.module(mark.module)}>{mark.module}</a>}</b>
                <span class="muted"> ({look.word})</span>: {mark.text}
              </span>
            </li>
          );
        })}
      </ol>
      {list.length > few && (
        <button type="button" class="plain" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
          {open.value ? 'Show fewer' : `Show all ${list.length}`}
        </button>
      )}
    </section>
  );
}
