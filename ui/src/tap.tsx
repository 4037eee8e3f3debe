// Messages as they pass, sampled. Nothing is shown before somebody presses Start.

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { type ApiError, problemOf, query as write, stream } from './api';
import { plural } from './format';
import { parse } from './json';
import { names } from './live';
import { Problem } from './parts';
import { TapLine } from './tap-line';
import type { Tapped } from './types';

const MOST = 200;
const RATES = [1, 5, 10, 50];
/** Messages that arrive within this time are drawn together. */
const DRAW_MS = 200;

export interface Entry {
  id: number;
  tapped: Tapped;
}

export function TapView({ query }: { query: URLSearchParams }) {
  const module = useSignal(query.get('module') ?? '');
  const channel = useSignal('');
  const rate = useSignal(10);
  const running = useSignal(false);
  const note = useSignal('');
  const problem = useSignal<ApiError | null>(null);
  const entries = useSignal<readonly Entry[]>([]);
  const skipped = useSignal(0);
  const abort = useRef<AbortController | null>(null);
  const serial = useRef(0);

  const stop = (why: string) => {
    abort.current?.abort();
    abort.current = null;
    running.value = false;
    note.value = why;
  };

  const start = async () => {
    stop('');
    const mine = new AbortController();
    abort.current = mine;
    running.value = true;
    problem.value = null;
    let waiting: Entry[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      entries.value = [...waiting.reverse(), ...entries.value].slice(0, MOST);
      waiting = [];
    };
    try {
      const path = `tap${write({ module: module.value, channel: channel.value.trim(), rate: rate.value })}`;
      const emit = (name: string, data: string) => {
        if (name !== 'message' || mine.signal.aborted) return;
        const tapped = parse<Tapped>(data);
        skipped.value += tapped.skipped ?? 0;
        serial.current += 1;
        waiting.push({ id: serial.current, tapped });
        if (waiting.length > MOST) waiting.shift();
        timer ??= setTimeout(draw, DRAW_MS);
      };
      await stream(path, emit, { signal: mine.signal });
      if (!mine.signal.aborted) stop('The relay has ended the tap.');
    } catch (error) {
      if (!mine.signal.aborted) {
        stop('');
        problem.value = problemOf(error);
      }
    }
  };

  useEffect(() => {
    const hidden = () => {
      if (document.hidden && abort.current) stop('The tap was paused because the page was not in view.');
    };
    document.addEventListener('visibilitychange', hidden);
    return () => {
      document.removeEventListener('visibilitychange', hidden);
      abort.current?.abort();
    };
  }, []);

  // A tap that runs follows a change at once.
  const changed = () => {
    if (running.value) void start();
  };
  const list = module.value && !names.value.includes(module.value) ? [module.value, ...names.value] : names.value;
  return (
    <>
      <h1 tabIndex={-1}>Tap</h1>
      <p class="muted">A sample of the messages that pass through the modules, and what becomes of each.</p>
      <form
        class="panel bar"
        onSubmit={(event) => {
          event.preventDefault();
          if (!running.value) void start();
        }}
      >
        <label>
          Module
          <select
            value={module.value}
            onChange={(event) => {
              module.value = event.currentTarget.value;
              changed();
            }}
          >
            <option value="">all</option>
            {list.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Channel
          <input
            type="text"
            value={channel.value}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => (channel.value = event.currentTarget.value)}
            onChange={changed}
          />
        </label>
        <label>
          At most
          <select
            value={rate.value}
            onChange={(event) => {
              rate.value = Number(event.currentTarget.value);
              changed();
            }}
          >
            {RATES.map((each) => (
              <option key={each} value={each}>
                {plural(each, 'message')} a second
              </option>
            ))}
          </select>
        </label>
        {/* No button of the form submits it: one that becomes such a button while it is clicked would start the tap again. */}
        <button
          type="button"
          class={running.value ? '' : 'primary'}
          onClick={() => (running.value ? stop('') : void start())}
        >
          {running.value ? 'Pause' : 'Start'}
        </button>
        <button
          type="button"
          class="plain"
          disabled={entries.value.length === 0}
          onClick={() => {
            entries.value = [];
            skipped.value = 0;
          }}
        >
          Clear
        </button>
      </form>
      {problem.value && <Problem problem={problem.value} again={start} />}
      <p role="status" class="words">
        {note.value || (running.value ? 'The tap is running.' : 'The tap is paused.')}
      </p>
      {skipped.value > 0 && <p class="muted">{plural(skipped.value, 'message')} not shown.</p>}
      {entries.value.length > 0 && (
        <section class="panel" aria-label="Messages, newest first">
          <ol class="entries">
            {entries.value.map((entry) => (
              <TapLine key={entry.id} tapped={entry.tapped} />
            ))}
          </ol>
        </section>
      )}
    </>
  );
}
