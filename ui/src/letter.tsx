// A dead letter in the list. Its payload is loaded when it is opened.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type ApiError, getExact, problemOf } from './api';
import { bytes } from './format';
import { isBusy, start, type Verb } from './jobs';
import { offer, ofLetter, ONLY_A_PART, placeOf } from './messages';
import { OutcomeDetails } from './outcome';
import { Code, Moment, Problem, useToken } from './parts';
import { go, to } from './route';
import type { FullLetter, Letter } from './types';

export function LetterItem({ letter }: { letter: Letter }) {
  const open = useSignal(false);
  return (
    <li class="entry-box">
      <button type="button" class="line" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        <span class="twist" aria-hidden="true">
          {open.value ? '▾' : '▸'}
        </span>
        <span class="words">
          <b>{letter.number}</b>{' '}
          <span class="muted">
            <Moment at={letter.stored} />
          </span>{' '}
          <b>{letter.module}</b> {letter.stage}, {letter.code}{' '}
          <span class="muted">
            {letter.subject} {placeOf(letter)}
          </span>
          <br />
          {letter.reason || 'no reason is given'}
        </span>
      </button>
      {open.value && <Opened letter={letter} />}
    </li>
  );
}

function Opened({ letter }: { letter: Letter }) {
  const full = useSignal<FullLetter | null>(null);
  const problem = useSignal<ApiError | null>(null);
  const again = useSignal(0);
  const token = useToken();
  useEffect(() => {
    const abort = new AbortController();
    getExact<FullLetter>(`dead-letters/${letter.number}`, { signal: abort.signal }).then(
      (loaded) => {
        full.value = loaded;
        problem.value = null;
      },
      (error) => (problem.value = problemOf(error) ?? problem.value),
    );
    return () => abort.abort();
  }, [letter.number, again.value, token]);
  if (problem.value) return <Problem problem={problem.value} again={() => (again.value += 1)} />;
  if (!full.value) return <p class="inside muted">Loading…</p>;
  return <Details letter={full.value} />;
}

function Details({ letter }: { letter: FullLetter }) {
  const selection = { numbers: [letter.number] };
  const what = `dead letter ${letter.number}`;
  const run = (verb: Verb) => start(verb, selection, what, verb === 'remove');
  const tryIt = () => {
    offer(letter.module, ofLetter(letter));
    go(to.try(letter.module));
  };
  return (
    <div class="inside">
      <div class="buttons start">
        <button type="button" aria-disabled={isBusy()} onClick={() => run('replay')}>
          Replay
        </button>
        <button type="button" class="danger" aria-disabled={isBusy()} onClick={() => run('remove')}>
          Remove
        </button>
        <button type="button" disabled={letter.truncated} onClick={tryIt}>
          Open in the playground
        </button>
        {letter.truncated && <span class="muted">{ONLY_A_PART}</span>}
      </div>
      <dl class="pairs">
        <dt>Reason</dt>
        <dd class="words">{letter.reason || '–'}</dd>
        <dt>Stage and code</dt>
        <dd>
          {letter.stage}, {letter.code}
        </dd>
        {letter.channel !== null && (
          <>
            <dt>Channel</dt>
            <dd class="words">{letter.channel}</dd>
          </>
        )}
        <dt>Message</dt>
        <dd class="words">
          {letter.subject === null ? 'This letter was not stored by Slipring.' : `${letter.subject}, ${letter.stream} ${placeOf(letter)}`}
        </dd>
        {letter.sha256 && (
          <>
            <dt>Module SHA-256</dt>
            <dd class="words">
              <code>{letter.sha256}</code>
            </dd>
          </>
        )}
      </dl>
      <Headers headers={letter.headers} />
      <h3>
        Payload <small>{bytes(letter.size)}</small>
      </h3>
      {letter.payload !== null ? (
        <Code text={letter.payload} label="Payload" />
      ) : (
        <>
          <p class="muted">This is not text. It is shown in base64.</p>
          <Code text={letter.payload_base64 ?? ''} label="Payload in base64" />
        </>
      )}
      <h3>What the module makes of it now</h3>
      {letter.now ? <OutcomeDetails outcome={letter.now} /> : <p class="words">{letter.problem ?? 'Unknown.'}</p>}
    </div>
  );
}

export function Headers({ headers }: { headers: readonly (readonly [string, string])[] }) {
  if (headers.length === 0) return null;
  return (
    <>
      <h3>Headers</h3>
      <dl class="pairs">
        {headers.map(([name, value], index) => [
          <dt key={`${index} name`}>{name}</dt>,
          <dd key={`${index} value`} class="words">
            {value}
          </dd>,
        ])}
      </dl>
    </>
  );
}
