// A message in the tap.

import { useSignal } from '@preact/signals';
import { bytes, clock, micros, plural } from './format';
import { Headers } from './letter';
import { offer, ofTapped, ONLY_A_PART, placeOf } from './messages';
import { OutcomeDetails, OutcomeWord, summary } from './outcome';
import { Code } from './parts';
import { go, to } from './route';
import type { Tapped } from './types';

export function TapLine({ tapped }: { tapped: Tapped }) {
  const open = useSignal(false);
  return (
    <li class="entry-box">
      <button type="button" class="line" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        <span class="twist" aria-hidden="true">
          {open.value ? '▾' : '▸'}
        </span>
        <span class="words">
          <span class="muted">{clock(tapped.time)}</span> <b>{tapped.module}</b> {tapped.subject}{' '}
          <span aria-hidden="true">→</span>
          <span class="hidden">to</span> {summary(tapped)} <OutcomeWord outcome={tapped.outcome} />{' '}
          <span class="muted">
            {micros(tapped.micros)} {tapped.version}
          </span>
        </span>
      </button>
      {tapped.skipped > 0 && <p class="skipped muted">{plural(tapped.skipped, 'message')} before this one not shown.</p>}
      {open.value && <Details tapped={tapped} />}
    </li>
  );
}

function headersOf(tapped: Tapped): [string, string][] {
  return Object.entries(tapped.headers ?? {}).flatMap(([name, values]) =>
    [values].flat().map((value): [string, string] => [name, value]),
  );
}

function Details({ tapped }: { tapped: Tapped }) {
  const partial = tapped.truncated || (tapped.more_headers ?? 0) > 0;
  const tryIt = () => {
    offer(tapped.module, ofTapped(tapped));
    go(to.try(tapped.module));
  };
  return (
    <div class="inside">
      <div class="buttons start">
        <button type="button" disabled={partial} onClick={tryIt}>
          Try in the playground
        </button>
        {partial && <span class="muted">{ONLY_A_PART}</span>}
      </div>
      <p class="muted words">
        {tapped.subject}, {tapped.stream} {placeOf(tapped)}
      </p>
      <Headers headers={headersOf(tapped)} />
      {(tapped.more_headers ?? 0) > 0 && <p class="muted">{plural(tapped.more_headers ?? 0, 'more header')}.</p>}
      <h3>
        Payload <small>{bytes(tapped.size)}</small>
      </h3>
      {typeof tapped.payload === 'string' ? (
        <Code text={tapped.payload} label="Payload" />
      ) : (
        <Code text={tapped.payload_base64 ?? ''} label="Payload in base64" />
      )}
      <h3>Outcome</h3>
      <OutcomeDetails outcome={tapped} />
      {(tapped.more_publications ?? 0) > 0 && (
        <p class="muted">{plural(tapped.more_publications ?? 0, 'more publication')}.</p>
      )}
    </div>
  );
}
