// What the view of arrivals consists of.

import type { Board, Card, Line, Shown } from './arrivals-board';
import { MOST_CHANNELS } from './arrivals-board';
import type { Link } from './arrivals-client';
import { offered } from './offer';
import { advice } from './arrivals-words';
import { clip, clock, count, plural, versionOf } from './format';
import { modules, names } from './live';
import { lookOf } from './marks';
import { State, VersionName } from './parts';
import { to } from './route';
import type { Mark } from './types';

const LINKS: Record<Link['state'], [sign: string, tone: string, word: string]> = {
  connecting: ['◌', 'accent', 'Connecting to'],
  connected: ['●', 'ok', 'Connected to'],
  lost: ['✕', 'bad', 'No connection to'],
  ended: ['✕', 'bad', 'Centrifugo has ended the connection to'],
};

interface LinkStateProps {
  link: Link;
  address: string;
  /** What the relay says of Centrifugo. */
  trouble: string | null;
  connect: () => void;
}

export function LinkState({ link, address, trouble, connect }: LinkStateProps) {
  const [sign, tone, word] = LINKS[link.state];
  const bad = link.state === 'lost' || link.state === 'ended';
  // The place for what is said is always there, or screen readers would miss it.
  return (
    <div class={bad ? 'notice tone-bad' : undefined}>
      <p class="words" role="status">
        <span class={`ink tone-${tone}`}>
          <span aria-hidden="true">{sign}</span> {word}
        </span>{' '}
        <code>{address}</code>
        {bad && <Sentences text={`: ${link.cause}. ${advice(link, location.origin, trouble)}`} />}
        {link.state === 'lost' && ' Trying again …'}
      </p>
      {link.state === 'ended' && (
        <button type="button" onClick={connect}>
          Connect again
        </button>
      )}
    </div>
  );
}

/** Text with code between backticks. */
function Sentences({ text }: { text: string }) {
  return <>{text.split('`').map((part, index) => (index % 2 === 1 ? <code key={index}>{part}</code> : part))}</>;
}

const MOST_MODULES = 12;

/** The version of each module, so that a swap shows. */
export function Running({ board }: { board: Board }) {
  const all = names.value;
  if (all.length === 0) return null;
  return (
    <section class="panel" aria-label="Modules">
      <ul class="running">
        {all.slice(0, MOST_MODULES).map((name) => (
          <Module key={name} name={name} />
        ))}
      </ul>
      {all.length > MOST_MODULES && <p class="muted">{plural(all.length - MOST_MODULES, 'more module')} in the overview.</p>}
      <p class="words event" role="status">
        {board.event.value && <Event mark={board.event.value} />}
      </p>
    </section>
  );
}

function Event({ mark }: { mark: Mark }) {
  const look = lookOf(mark.kind);
  return (
    <>
      <span class="muted">{clock(mark.time)}</span>{' '}
      <b class={`ink tone-${look.tone}`}>
        <span aria-hidden="true">{look.sign}</span> {mark.module ?? 'Relay'}
      </b>{' '}
      ({look.word}): {mark.text}
    </>
  );
}

function Module({ name }: { name: string }) {
  const module = modules.get(name)?.module.value;
  if (!module) return null;
  const version = versionOf(module.sha256, module.toml_sha256);
  return (
    <li class="words">
      <a href={to.module(name)}>{name}</a> <State state={module.state} />{' '}
      <span key={version} class="fresh">
        <VersionName version={version} />
      </span>
    </li>
  );
}

export function BoardPanel({ board }: { board: Board }) {
  const cards = board.cards.value;
  const unshown = board.unshown.value;
  return (
    <section aria-labelledby="board">
      <div class="bar">
        <h2 id="board">Channels</h2>
        <span class="muted" role="status">
          {cards.length > 0 && plural(cards.length, 'channel')}
          {unshown > 0 && `, and ${count(unshown)} more than the ${MOST_CHANNELS} that fit`}
        </span>
      </div>
      {cards.length === 0 && <Empty />}
      <ul class="board">
        {cards.map((card) => (
          <ChannelCard key={card.channel} card={card} />
        ))}
      </ul>
    </section>
  );
}

function Empty() {
  const subjects = offered.value?.subjects ?? {};
  return (
    <div class="panel">
      <p>Nothing has arrived yet. Publish a message that a module reads:</p>
      <pre class="code" role="group" tabIndex={0} aria-label="Command">
        slipring publish SUBJECT DATA
      </pre>
      {names.value.length === 0 && <p class="muted">The relay has no modules yet.</p>}
      <ul>
        {names.value.slice(0, MOST_MODULES).map((name) => (
          <li key={name} class="words">
            <b>{name}</b> reads <Reads subjects={subjects[name]} stream={modules.get(name)?.module.value.stream ?? null} />
          </li>
        ))}
      </ul>
    </div>
  );
}

function Reads({ subjects, stream }: { subjects: string[] | undefined; stream: string | null }) {
  if (!subjects?.length) {
    if (stream === null) return <>no stream now</>;
    return (
      <>
        {subjects ? 'all of the stream' : 'the stream'} <code>{stream}</code>
      </>
    );
  }
  return (
    <>
      {subjects.map((subject, index) => (
        <span key={subject}>
          {index > 0 && ', '}
          <code>{subject}</code>
        </span>
      ))}
    </>
  );
}

function ChannelCard({ card }: { card: Card }) {
  const shown = card.shown.value;
  const { latest, origin } = shown;
  return (
    <li class="panel card" aria-label={card.channel}>
      <h3 class="words">
        <span key={shown.fresh ? latest?.id : 'same'} class={shown.fresh ? 'fresh' : undefined}>
          {card.channel}
        </span>
      </h3>
      {shown.note && (
        <p class={`words ${shown.state === 'refused' ? 'ink tone-bad' : 'muted'}`}>
          <Sentences text={shown.note} />
        </p>
      )}
      {shown.state === 'subscribing' && !latest && <p class="muted">Subscribing…</p>}
      {shown.state === 'subscribed' && !latest && !shown.note && <p class="muted">Nothing has arrived yet.</p>}
      {latest && <Latest shown={shown} />}
      {latest && (
        <p class="muted words">
          {latest.past ? 'From the history' : clock(latest.at / 1000)}, {plural(shown.count, 'arrival')}
          {origin?.version && `, version ${origin.version}`}
          {origin && `, by ${origin.module}`}
          {origin?.build && ` ${origin.build.slice(0, 12)}`}
        </p>
      )}
    </li>
  );
}

/** More members of an object than these are left out. */
const MOST_FIELDS = 12;
/** The same for what is no object, in characters. */
const LONGEST = 2000;

function Latest({ shown: { latest, fresh, changed } }: { shown: Shown }) {
  if (!latest) return null;
  const { kind, text, fields } = latest.content;
  const tags = latest.tags.map(([name, value]) => [`tag ${name}`, value] as const);
  const pairs = [...fields.slice(0, MOST_FIELDS), ...tags.slice(0, MOST_FIELDS)];
  return (
    <>
      {pairs.length > 0 && (
        <dl class="pairs">
          {pairs.map(([name, value]) => [
            <dt key={`${name} name`}>{name}</dt>,
            <dd key={`${name} value`} class="words">
              <span key={changed.has(name) ? latest.id : 'same'} class={changed.has(name) ? 'fresh' : undefined}>
                {value || '""'}
              </span>
            </dd>,
          ])}
        </dl>
      )}
      {fields.length > MOST_FIELDS && <p class="muted">{plural(fields.length - MOST_FIELDS, 'more member')}.</p>}
      {fields.length === 0 && (
        <p class="words data">
          {kind === 'binary' && <span class="muted">in base64: </span>}
          <code key={fresh ? latest.id : 'same'} class={fresh ? 'fresh' : undefined}>
            {clip(text, LONGEST) || '(empty)'}
          </code>
        </p>
      )}
    </>
  );
}

export function Feed({ board }: { board: Board }) {
  const lines = board.lines.value;
  const paused = board.paused.value;
  return (
    <section class="panel feed" aria-labelledby="feed">
      <div class="bar">
        <h2 id="feed">Newest first</h2>
        <span class="buttons">
          <button type="button" aria-pressed={paused} onClick={() => (board.paused.value = !paused)}>
            Pause
          </button>
          <button type="button" class="plain" disabled={lines.length === 0} onClick={() => board.clear()}>
            Clear
          </button>
        </span>
      </div>
      {lines.length === 0 && <p class="muted">What arrives from now on is listed here, and swaps of modules.</p>}
      {lines.length > 0 && (
        <ol class="lines" tabIndex={0} aria-label="What arrived, newest first">
          {lines.map((line) => (
            <FeedLine key={line.id} line={line} />
          ))}
        </ol>
      )}
    </section>
  );
}

function FeedLine({ line }: { line: Line }) {
  if (line.kind === 'mark') {
    return (
      <li class={`words mark tone-${lookOf(line.mark.kind).tone}`}>
        <Event mark={line.mark} />
      </li>
    );
  }
  const { channel, at, past, text, origin } = line;
  return (
    <li class="words">
      <span class="muted">{clock(at / 1000)}</span> <b>{channel}</b> <code>{text || '(empty)'}</code>{' '}
      <span class="muted">
        {past ? 'from the history' : ''}
        {origin && `${past ? ', ' : ''}by ${origin.module} ${origin.build?.slice(0, 12) ?? ''}`}
      </span>
    </li>
  );
}
