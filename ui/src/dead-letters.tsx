// The dead letters: by reason, one by one, and what to do with them.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type ApiError, getExact, problemOf, query as write } from './api';
import { rescueFocus } from './focus';
import { count, plural } from './format';
import { finished, isBusy, JobPanel, start } from './jobs';
import { LetterItem } from './letter';
import { Moment, Problem, useToken } from './parts';
import { to } from './route';
import type { DeadLetters, Group, Letter, Selection } from './types';

const PAGE = 50;
/** The page keeps no more letters than these. */
const MOST = 1000;

const KEYS = ['module', 'stage', 'code', 'reason'] as const;
type Filter = Partial<Record<(typeof KEYS)[number], string>>;

function filterOf(query: URLSearchParams): Filter {
  const filter: Filter = {};
  for (const key of KEYS) {
    const value = query.get(key);
    if (value !== null) filter[key] = value;
  }
  return filter;
}

export function DeadLettersView({ query }: { query: URLSearchParams }) {
  const filter = filterOf(query);
  const page = useSignal<DeadLetters | null>(null);
  const letters = useSignal<Letter[]>([]);
  const problem = useSignal<ApiError | null>(null);
  const loading = useSignal(false);
  const again = useSignal(0);
  const token = useToken();

  const load = async (after: number | null, signal?: AbortSignal) => {
    if (after !== null && loading.value) return;
    loading.value = true;
    try {
      const loaded = await getExact<DeadLetters>(`dead-letters${write({ ...filter, after, limit: PAGE })}`, { signal });
      // The groups of a later page are those of the first.
      if (after === null) page.value = loaded;
      else if (page.value) page.value = { ...page.value, total: loaded.total, next: loaded.next };
      letters.value = (after === null ? loaded.letters : [...letters.value, ...loaded.letters]).slice(0, MOST);
      problem.value = null;
    } catch (error) {
      problem.value = problemOf(error) ?? problem.value;
    }
    loading.value = false;
  };
  useEffect(() => {
    const abort = new AbortController();
    // After a job, the letter or group whose button was pressed may be gone.
    void load(null, abort.signal).then(() => finished.peek() > 0 && rescueFocus());
    return () => abort.abort();
  }, [finished.value, again.value, token]);

  const loaded = page.value;
  const filtered = Object.keys(filter).length > 0;
  const next = loaded?.next ?? null;
  return (
    <>
      <h1 tabIndex={-1}>Dead letters</h1>
      <p class="muted">Messages that could not be published, each stored with the reason.</p>
      <JobPanel />
      {problem.value && <Problem problem={problem.value} again={() => (again.value += 1)} />}
      {!loaded && !problem.value && <p class="muted">Loading…</p>}
      {loaded && <Shown filter={filter} filtered={filtered} loaded={loaded} />}
      {loaded && (
        <section class="panel" aria-labelledby="letters">
          <div class="bar">
            <h2 id="letters">Newest first</h2>
            <span class="muted" role="status">
              {loading.value ? 'Loading…' : `${plural(letters.value.length, 'letter')} of ${count(loaded.total)}`}
            </span>
            <button type="button" class="plain" onClick={() => (again.value += 1)}>
              Load again
            </button>
          </div>
          {letters.value.length === 0 && <p>{filtered ? 'No dead letters match.' : 'There are no dead letters.'}</p>}
          <ol class="entries">
            {letters.value.map((letter) => (
              <LetterItem key={letter.number} letter={letter} />
            ))}
          </ol>
          {next !== null && letters.value.length < MOST && (
            <button type="button" aria-disabled={loading.value} onClick={() => load(next)}>
              More
            </button>
          )}
          {next !== null && letters.value.length >= MOST && (
            <p class="muted">Only {count(MOST)} are listed. Choose a group to see others.</p>
          )}
        </section>
      )}
    </>
  );
}

interface ShownProps {
  filter: Filter;
  filtered: boolean;
  loaded: DeadLetters;
}

function Shown({ filter, filtered, loaded: { total, groups, ungrouped = 0 } }: ShownProps) {
  const all = total === 1 ? '' : filtered ? 'these' : 'all';
  const what = [all, plural(total, 'dead letter')].filter(Boolean).join(' ');
  const selection: Selection = filtered ? filter : { all: true };
  return (
    <section class="panel" aria-labelledby="groups">
      <div class="bar">
        <h2 id="groups">{plural(total, 'dead letter')}, by reason</h2>
        {total > 0 && <Actions selection={selection} what={what} all={all} />}
      </div>
      {filtered && (
        <p class="bar words">
          <span>
            Only{' '}
            {KEYS.filter((key) => filter[key] !== undefined).map((key, index) => (
              <span key={key}>
                {index > 0 && ', '}
                {key} <code>{filter[key]}</code>
              </span>
            ))}
            .
          </span>
          <a href={to.deadLetters()}>Show all</a>
        </p>
      )}
      {groups.length > 0 && <Groups groups={groups} />}
      {ungrouped > 0 && <p class="muted">{plural(ungrouped, 'more letter')} with other reasons.</p>}
    </section>
  );
}

interface ActionsProps {
  selection: Selection;
  what: string;
  /** Completes the names of the buttons. */
  all?: string;
  about?: string;
}

function Actions({ selection, what, all = '', about }: ActionsProps) {
  const busy = isBusy();
  const name = (verb: string) => [verb, all].filter(Boolean).join(' ');
  return (
    <span class="buttons">
      <button
        type="button"
        aria-disabled={busy}
        onClick={() => start('replay', selection, what, true)}
      >
        {name('Replay')}
        {about && <span class="hidden"> {about}</span>}
      </button>
      <button
        type="button"
        class="danger"
        aria-disabled={busy}
        onClick={() => start('remove', selection, what, true)}
      >
        {name('Remove')}
        {about && <span class="hidden"> {about}</span>}
      </button>
    </span>
  );
}

function Groups({ groups }: { groups: readonly Group[] }) {
  return (
    <table class="cards" role="table">
      <thead role="rowgroup">
        <tr role="row">
          {['Reason', 'Module', 'Stage', 'Count', 'First', 'Last', 'Actions'].map((title) => (
            <th key={title} scope="col" role="columnheader">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {groups.map((group) => (
          <GroupRow key={KEYS.map((key) => group[key]).join('\n')} group={group} />
        ))}
      </tbody>
    </table>
  );
}

function GroupRow({ group }: { group: Group }) {
  const { module, stage, code, reason } = group;
  const selection = { module, stage, code, reason };
  const what = `${plural(group.count, 'dead letter')} of ${module}`;
  return (
    <tr role="row">
      <th scope="row" role="rowheader" data-label="Reason" class="wide words">
        <a href={to.deadLetters(selection)}>{reason || 'no reason is given'}</a>
        <small>{code}</small>
      </th>
      <td role="cell" data-label="Module" class="words">
        {module}
      </td>
      <td role="cell" data-label="Stage">
        {stage}
      </td>
      <td role="cell" data-label="Count">
        {count(group.count)}
      </td>
      <td role="cell" data-label="First">
        <Moment at={group.first} />
      </td>
      <td role="cell" data-label="Last">
        <Moment at={group.last} />
      </td>
      <td role="cell" data-label="Actions">
        <Actions selection={selection} what={what} about={`${what}: ${reason}`} />
      </td>
    </tr>
  );
}
