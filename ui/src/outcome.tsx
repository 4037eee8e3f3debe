// What a module makes of a message.

import { clip, micros } from './format';
import { compact } from './json';
import { Code } from './parts';
import type { Outcome, Publication } from './types';

/** One line: where it goes, or why not. */
export function summary(outcome: Outcome): string {
  switch (outcome.outcome) {
    case 'publish':
      return channelsOf(outcome.publications ?? []).join(', ') || 'no publication';
    case 'drop':
      return 'dropped';
    case 'reject':
      return `rejected: ${outcome.code ?? 'no code'}`;
    default:
      return outcome.outcome;
  }
}

export function channelsOf(publications: readonly Publication[]): string[] {
  return publications.flatMap((publication) => (Array.isArray(publication.channels) ? publication.channels : []));
}

export function OutcomeWord({ outcome }: { outcome: string }) {
  const [sign, tone, word] =
    outcome === 'publish'
      ? ['→', 'ok', 'publish']
      : outcome === 'drop'
        ? ['∅', 'muted', 'drop']
        : outcome === 'reject'
          ? ['✕', 'bad', 'reject']
          : ['?', 'muted', outcome];
  return (
    <span class={`badge tone-${tone}`}>
      <span aria-hidden="true">{sign}</span> {word}
    </span>
  );
}

const MOST = 50;

export function OutcomeDetails({ outcome }: { outcome: Outcome }) {
  const publications = outcome.publications ?? [];
  return (
    <div class="outcome">
      <p>
        <OutcomeWord outcome={outcome.outcome} />{' '}
        <span class="muted">
          {[outcome.version ? `version ${outcome.version}` : '', micros(outcome.micros)].filter(Boolean).join(', ')}
        </span>
      </p>
      {outcome.outcome === 'drop' && <p>The module publishes nothing for this message.</p>}
      {outcome.outcome === 'reject' && (
        <p class="words">
          <b>{outcome.code}</b>: {outcome.reason ?? 'no reason is given'}
          {outcome.channel && ` (channel ${outcome.channel})`}
        </p>
      )}
      {publications.slice(0, MOST).map((publication, index) => (
        <PublicationView key={index} publication={publication} />
      ))}
      {publications.length > MOST && <p class="muted">Only {MOST} of {publications.length} publications are shown.</p>}
    </div>
  );
}

function PublicationView({ publication }: { publication: Publication }) {
  const { channels = [], data, binary_base64: binary, ...more } = publication;
  const others = Object.entries(more).filter(([, value]) => value !== null && value !== undefined);
  // Of long JSON, only the beginning is here, as a text.
  const shown = publication.truncated && typeof data === 'string' ? data : compact(data);
  return (
    <div class="publication">
      <p class="words">
        <span aria-hidden="true">→ </span>
        {channels.map((channel, index) => (
          <span key={index}>
            {index > 0 && ', '}
            <code>{channel}</code>
          </span>
        ))}
        {others.map(([name, value]) => (
          <span key={name} class="muted">
            {' '}
            {name}: {clip(typeof value === 'string' ? value : compact(value), 500)}
          </span>
        ))}
      </p>
      {data !== undefined && <Code text={shown} label={`Data for ${channels.join(', ')}`} />}
      {binary !== undefined && <Code text={binary} label={`Data for ${channels.join(', ')}, in base64`} />}
    </div>
  );
}
