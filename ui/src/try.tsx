// The playground: a message, a version, and what it makes of it. Nothing is published.

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { type ApiError, get, getExact, postExact, problemOf, query as write } from './api';
import { parse, pretty } from './json';
import { mistake } from './json-place';
import { names } from './live';
import { draft, placeOf, preview } from './messages';
import { OutcomeDetails } from './outcome';
import { Problem, useToken } from './parts';
import type { Outcome, TryMessage, Version, Versions } from './types';
import { versionsPath } from './versions';

const TEMPLATE = pretty({ subject: 'orders.7', headers: {}, data: { id: 7, status: 'paid' } });
const LAST = 20;

export function TryView({ query }: { query: URLSearchParams }) {
  const taken = draft.peek();
  const module = useSignal(taken?.module ?? query.get('module') ?? '');
  const version = useSignal('');
  const text = useSignal(taken?.text ?? TEMPLATE);
  const wrong = useSignal<string | null>(null);
  const outcome = useSignal<Outcome | null>(null);
  const problem = useSignal<ApiError | null>(null);
  const busy = useSignal(false);
  const editor = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    draft.value = null;
  }, []);

  const chosen = module.value || names.value[0] || '';
  const run = async () => {
    if (busy.value || !chosen) return;
    wrong.value = mistake(text.value);
    if (wrong.value !== null) {
      outcome.value = null;
      editor.current?.focus();
      return;
    }
    busy.value = true;
    problem.value = null;
    try {
      const body = { version: version.value || null, message: parse<TryMessage>(text.value) };
      outcome.value = await postExact<Outcome>(`modules/${encodeURIComponent(chosen)}/try`, body);
    } catch (error) {
      outcome.value = null;
      problem.value = problemOf(error);
    }
    busy.value = false;
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void run();
    }
  };
  const take = (message: TryMessage) => {
    text.value = pretty(message);
    wrong.value = null;
    editor.current?.focus();
  };
  const list = chosen && !names.value.includes(chosen) ? [chosen, ...names.value] : names.value;
  return (
    <>
      <h1 tabIndex={-1}>Playground</h1>
      <p class="muted">Shows what a module makes of a message. Nothing is published.</p>
      <div class="halves">
        <section class="panel" aria-labelledby="message">
          <h2 id="message">Message</h2>
          <div class="bar">
            <label>
              Module
              <select
                value={chosen}
                onChange={(event) => {
                  module.value = event.currentTarget.value;
                  version.value = '';
                  outcome.value = null;
                }}
              >
                {list.map((name) => (
                  <option key={name} value={name}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
            <VersionChoice key={chosen} module={chosen} chosen={version.value} choose={(value) => (version.value = value)} />
          </div>
          <label>
            Message as JSON
            <textarea
              ref={editor}
              rows={16}
              spellcheck={false}
              autocomplete="off"
              value={text.value}
              aria-invalid={wrong.value !== null}
              aria-describedby="wrong"
              onInput={(event) => {
                text.value = event.currentTarget.value;
                wrong.value = null;
              }}
              onKeyDown={keys}
            />
          </label>
          <p id="wrong" class={wrong.value ? 'ink tone-bad words' : 'muted'} role="status">
            {wrong.value ?? 'One of data, payload and payload_base64 holds the payload.'}
          </p>
          <div class="buttons start">
            <button type="button" class="primary" aria-disabled={busy.value} disabled={!chosen} onClick={run}>
              {busy.value ? 'Running…' : 'Run'}
            </button>
            <span class="muted">or press Ctrl+Enter</span>
          </div>
        </section>
        <section class="panel" aria-labelledby="outcome">
          <h2 id="outcome">Outcome</h2>
          {problem.value && <Problem problem={problem.value} again={run} />}
          <div aria-live="polite">
            {outcome.value && <OutcomeDetails outcome={outcome.value} />}
            {!outcome.value && !problem.value && <p class="muted">Run a message to see what becomes of it.</p>}
          </div>
        </section>
      </div>
      {chosen && <Last key={chosen} module={chosen} take={take} />}
    </>
  );
}

interface VersionChoiceProps {
  module: string;
  chosen: string;
  choose: (version: string) => void;
}

function VersionChoice({ module, chosen, choose }: VersionChoiceProps) {
  const versions = useSignal<Version[]>([]);
  useEffect(() => {
    if (!module) return;
    const abort = new AbortController();
    get<Versions>(versionsPath(module), { signal: abort.signal, ask: false }).then(
      (loaded) => (versions.value = loaded.versions),
      // The running version can be tried without the list.
      () => undefined,
    );
    return () => abort.abort();
  }, [module]);
  return (
    <label>
      Version
      <select value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">running</option>
        {versions.value
          .filter(({ running }) => !running)
          .map(({ version }) => (
            <option key={version} value={version}>
              {version}
            </option>
          ))}
      </select>
    </label>
  );
}

function Last({ module, take }: { module: string; take: (message: TryMessage) => void }) {
  const messages = useSignal<TryMessage[] | null>(null);
  const problem = useSignal<ApiError | null>(null);
  useToken();
  const load = async () => {
    problem.value = null;
    try {
      const path = `modules/${encodeURIComponent(module)}/messages${write({ last: LAST })}`;
      messages.value = await getExact<TryMessage[]>(path);
    } catch (error) {
      problem.value = problemOf(error);
    }
  };
  return (
    <section class="panel" aria-labelledby="last">
      <h2 id="last">The last messages of this module</h2>
      <button type="button" onClick={load}>
        {messages.value ? 'Load them again' : 'Load them'}
      </button>
      {problem.value && <Problem problem={problem.value} again={load} />}
      <div role="status">{messages.value?.length === 0 && <p>There are none.</p>}</div>
      <ol class="entries">
        {messages.value?.map((message, index) => (
          <li key={index}>
            <button type="button" class="line" onClick={() => take(message)}>
              <span class="words">
                <b>{placeOf(message)}</b> {message.subject} <span class="muted">{preview(message)}</span>
              </span>
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}
