// Replaying and removing dead letters. A job goes on when the view is left.

import { signal } from '@preact/signals';
import { stream, problemOf } from './api';
import { confirm } from './dialog';
import { count, plural } from './format';
import type { End, Progress, Selection } from './types';

export type Verb = 'replay' | 'remove';

interface Job {
  verb: Verb;
  /** What it is done to, such as `17 dead letters`. */
  what: string;
  progress: Progress | null;
  end: End | null;
}

/** The job that runs, or the last one. */
export const job = signal<Job | null>(null);
/** Counts the jobs that have ended. */
export const finished = signal(0);

export const isBusy = (): boolean => job.value !== null && job.value.end === null;

const EXPLAINED: Record<Verb, string> = {
  replay: 'Each message runs through the running version of its module again. If it is published or dropped, its dead letter is removed.',
  remove: 'The messages are deleted for good. Nothing is published.',
};

/** `ask` is false where one letter is replayed, which does no harm. */
export async function start(verb: Verb, selection: Selection, what: string, ask: boolean): Promise<void> {
  if (isBusy()) return;
  const word = verb === 'replay' ? 'Replay' : 'Remove';
  if (ask) {
    const question = { title: `${word} ${what}?`, text: EXPLAINED[verb], action: word, danger: verb === 'remove' };
    if (!(await confirm(question)) || isBusy()) return;
  }
  job.value = { verb, what, progress: null, end: null };
  const change = (part: Partial<Job>) => {
    if (job.value) job.value = { ...job.value, ...part };
  };
  try {
    const emit = (name: string, data: string) => {
      if (name === 'progress') change({ progress: JSON.parse(data) as Progress });
      if (name === 'end') change({ end: JSON.parse(data) as End });
    };
    await stream(`dead-letters/${verb}`, emit, { method: 'POST', body: selection });
    if (isBusy()) change({ end: { ok: false, text: 'The connection ended before the relay sent the result. Check the list below.' } });
  } catch (error) {
    change({ end: { ok: false, text: problemOf(error)?.message ?? 'The request was stopped.' } });
  }
  finished.value += 1;
}

const MOST = 50;

export function JobPanel() {
  const now = job.value;
  const tone = now?.end ? (now.end.ok ? 'ok' : 'bad') : 'accent';
  // The place for what is said is always there, or screen readers would miss it.
  return (
    <div class={now ? `notice job tone-${tone}` : undefined}>
      <div class="words" role="status">
        {now && said(now)}
      </div>
      {now && <JobDetails job={now} />}
    </div>
  );
}

const doing = ({ verb, what }: Job): string => `${verb === 'replay' ? 'Replaying' : 'Removing'} ${what}`;

function said(now: Job) {
  if (now.end === null) return `${doing(now)}…`;
  return (
    <>
      <span aria-hidden="true">{now.end.ok ? '✓' : '✕'}</span> {now.end.text}
    </>
  );
}

function JobDetails({ job: now }: { job: Job }) {
  const { progress, end } = now;
  const failures = end?.failures ?? [];
  return (
    <>
      {end === null && (
        <p class="bar">
          <progress aria-label={doing(now)} max={progress?.of || 1} value={progress ? progress.done : undefined} />
          {progress && (
            <span>
              {count(progress.done)} of {count(progress.of)}
              {progress.failed > 0 && `, ${plural(progress.failed, 'failure')}`}
            </span>
          )}
        </p>
      )}
      {end === null && progress?.paused && <p class="words">Waiting: {progress.paused}</p>}
      {failures.length > 0 && (
        <ul>
          {failures.slice(0, MOST).map((failure) => (
            <li key={failure.number} class="words">
              <b>{failure.number}</b>: {failure.reason}
            </li>
          ))}
        </ul>
      )}
      {failures.length > MOST && <p>{plural(failures.length - MOST, 'more failure', 'more failures')}.</p>}
      {end !== null && (
        <button type="button" onClick={() => (job.value = null)}>
          Close
        </button>
      )}
    </>
  );
}
