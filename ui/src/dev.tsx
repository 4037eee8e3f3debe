// The page of `slipring dev --web`: the cases, a message that can be edited, and what the module on disk makes of it.

import './page.css';
import './dev.css';

import { computed, effect, signal, useSignal } from '@preact/signals';
import { render } from 'preact';
import { type ApiError, problemOf, setToken } from './api';
import { command, type Detail, detailOf, follow, run, state, trouble } from './dev-api';
import { List, Made, Summary, Trouble, VerdictBadge } from './dev-parts';
import { pretty } from './json';
import { mistake } from './json-place';
import { withoutToken } from './route';
import { applyTheme, nextTheme, theme } from './theme';

const TEMPLATE = pretty({ subject: 'shop.7', data: { id: 7 } });

const chosen = signal<string | null>(null);
/** The entry that is shown: the one that was chosen, or else the first that failed. */
const selected = computed(() => {
  const entries = state.value?.entries ?? [];
  const named = entries.find(({ name }) => name === chosen.value);
  return (named ?? entries.find(({ verdict }) => verdict === 'failed' || verdict === 'broken') ?? entries[0])?.name ?? null;
});
const detail = signal<Detail | null>(null);
/** What was typed, until it is run or given up. */
const typed = signal<string | null>(null);
/** A message that was sent. What was typed stays until the list has it. */
let sent: { name: string; text: string } | null = null;
const text = computed(() => typed.value ?? detail.value?.message ?? TEMPLATE);
const problem = signal<ApiError | null>(null);

function App() {
  const shown = state.value;
  return (
    <>
      <header>
        <span class="brand">slipring dev</span>
        <b class="words">{shown?.module?.name}</b>
        <div class="tools">
          <button type="button" class="plain" onClick={() => attempt(() => command('run', {}))}>
            Build and run again
          </button>
          <button type="button" class="plain" onClick={nextTheme}>
            Theme: {theme.value}
          </button>
        </div>
      </header>
      <Banner />
      <main>
        <h1 class="hidden">{shown?.module?.name ?? 'slipring dev'}</h1>
        {shown && (
          <>
            <Summary state={shown} />
            <Trouble state={shown} />
            <div class="bench">
              <List entries={shown.entries} selected={selected.value} advice={shown.advice} select={select} />
              <Message />
              <Outcome />
            </div>
          </>
        )}
      </main>
    </>
  );
}

function Banner() {
  const wrong = trouble.value;
  if (!wrong) return null;
  return (
    <div class="banner tone-bad" role="alert">
      <span>
        {wrong.status === 401
          ? 'The token in the address is missing or wrong. Open the address that `slipring dev --web` shows.'
          : `${wrong.message} Reconnecting …`}
      </span>
    </div>
  );
}

function Message() {
  const name = useSignal<string | null>(null);
  const wrong = useSignal<string | null>(null);
  const busy = useSignal(false);
  const start = async () => {
    if (busy.value) return;
    wrong.value = mistake(text.value);
    if (wrong.value !== null) return;
    busy.value = true;
    await attempt(async () => {
      const message = text.value;
      expect(await run(selected.value, message), message);
    });
    busy.value = false;
  };
  const save = (event: Event) => {
    event.preventDefault();
    const given = name.value?.trim();
    if (!given) return;
    void attempt(async () => {
      const message = text.value;
      await command('save', { name: given, text: message });
      expect(given, message);
      name.value = null;
    });
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      void start();
    }
  };
  return (
    <section class="panel" aria-labelledby="message">
      <h2 id="message">Message</h2>
      <label>
        Message as JSON
        <textarea
          rows={18}
          spellcheck={false}
          autocomplete="off"
          value={text.value}
          aria-invalid={wrong.value !== null}
          aria-describedby="wrong"
          onInput={(event) => {
            typed.value = event.currentTarget.value;
            wrong.value = null;
          }}
          onKeyDown={keys}
        />
      </label>
      <p id="wrong" class={wrong.value ? 'ink tone-bad words' : 'muted'} role="status">
        {wrong.value ?? 'One of data, payload and payload_base64 holds the payload. Nothing is published.'}
      </p>
      <div class="buttons start">
        <button type="button" class="primary" aria-disabled={busy.value} onClick={start}>
          Run
        </button>
        <span class="muted">or press Ctrl+Enter</span>
        {typed.value !== null && (
          <button type="button" class="plain" onClick={() => (typed.value = null)}>
            Undo the changes
          </button>
        )}
        {name.value === null && (
          <button type="button" onClick={() => (name.value = '')}>
            Save as a case…
          </button>
        )}
      </div>
      {name.value !== null && (
        <form class="save" onSubmit={save}>
          <label>
            Name
            <input
              ref={(input) => {
                if (input && name.value === '') input.focus();
              }}
              autocomplete="off"
              spellcheck={false}
              value={name.value}
              onInput={(event) => (name.value = event.currentTarget.value)}
            />
          </label>
          <button type="submit" class="primary">
            Save
          </button>
          <button type="button" onClick={() => (name.value = null)}>
            Cancel
          </button>
        </form>
      )}
    </section>
  );
}

function Outcome() {
  const shown = detail.value;
  const note = state.value?.note;
  const told = problem.value?.message ?? note?.text;
  const isTrouble = problem.value !== null || note?.is_trouble;
  return (
    <section class="panel" aria-labelledby="outcome">
      <div class="bar">
        <h2 id="outcome">Outcome</h2>
        {shown && <VerdictBadge verdict={shown.verdict} />}
      </div>
      <p class={`ink words tone-${isTrouble ? 'bad' : 'ok'}`} role="status">
        {told}
      </p>
      {!shown && <p class="muted">Run a message to see what becomes of it.</p>}
      {shown && (
        <>
          {typed.value !== null && <p class="muted">This is the outcome before your changes.</p>}
          <Made detail={shown} />
          {shown.is_case && (shown.verdict === 'failed' || shown.verdict === 'sample') && (
            <button type="button" onClick={() => attempt(() => command('accept', { name: shown.name }))}>
              Let the case expect this outcome
            </button>
          )}
        </>
      )}
    </section>
  );
}

function select(name: string): void {
  chosen.value = name;
  typed.value = null;
  problem.value = null;
}

/** Shows an entry that will come. */
function expect(name: string, message: string): void {
  sent = { name, text: message };
  typed.value = message;
  chosen.value = name;
}

async function attempt(action: () => Promise<void>): Promise<void> {
  problem.value = null;
  try {
    await action();
  } catch (error) {
    problem.value = problemOf(error);
  }
}

/** Loads what is selected, again after each change of the entries. */
function followDetail(): void {
  let newest = 0;
  const revision = computed(() => state.value?.revision ?? 0);
  effect(() => {
    revision.value;
    const name = selected.value;
    newest += 1;
    const asked = newest;
    if (name === null) {
      detail.value = null;
      return;
    }
    detailOf(name).then(
      (loaded) => {
        if (asked !== newest) return;
        detail.value = loaded;
        if (sent?.name !== loaded.name) return;
        if (typed.value === sent.text) typed.value = null;
        sent = null;
      },
      // The connection tells what is wrong.
      () => undefined,
    );
  });
}

function takeToken(): void {
  const { token: given, address } = withoutToken(location.hash);
  if (given === null) return;
  history.replaceState(null, '', address);
  setToken(given);
}

applyTheme();
takeToken();
addEventListener('hashchange', takeToken);
effect(() => {
  const shown = state.value;
  const failed = shown?.build.state === 'failed' || (shown?.failed ?? 0) > 0;
  document.title = `${failed ? '✕ ' : ''}${shown?.module?.name ?? 'slipring dev'} – slipring dev`;
});
const root = document.getElementById('app');
if (root) {
  root.textContent = '';
  render(<App />, root);
}
followDetail();
void follow();
