// What two versions of a module make of the last messages.

import { useSignal } from '@preact/signals';
import { useMemo } from 'preact/hooks';
import { type ApiError, getExact, problemOf, query } from './api';
import { plural } from './format';
import { pretty } from './json';
import { align, MOST_LINES } from './line-diff';
import { offer, placeOf, preview } from './messages';
import { summary } from './outcome';
import { Code, Problem } from './parts';
import { go, to } from './route';
import type { Diff, Outcome, Version } from './types';

export function Compare({ module, versions }: { module: string; versions: readonly Version[] }) {
  const from = useSignal('');
  const to = useSignal('');
  const diff = useSignal<Diff | null>(null);
  const problem = useSignal<ApiError | null>(null);
  const busy = useSignal(false);

  const after = to.value || (versions.find(({ running }) => running) ?? versions[0])?.version || '';
  const before = from.value || versions.find(({ version }) => version !== after)?.version || '';
  const compare = async () => {
    if (busy.value) return;
    busy.value = true;
    problem.value = null;
    try {
      const path = `modules/${encodeURIComponent(module)}/diff${query({ from: before, to: after })}`;
      diff.value = await getExact<Diff>(path);
    } catch (error) {
      problem.value = problemOf(error);
    }
    busy.value = false;
  };
  return (
    <section class="panel" aria-labelledby="compare">
      <h2 id="compare">Compare two versions</h2>
      <p class="muted">Both run on the last messages of this module. Nothing is published.</p>
      <div class="bar">
        <Choice label="Old" chosen={before} versions={versions} choose={(version) => (from.value = version)} />
        <Choice label="New" chosen={after} versions={versions} choose={(version) => (to.value = version)} />
        <button type="button" aria-disabled={busy.value} disabled={!before || !after} onClick={compare}>
          {busy.value ? 'Comparing…' : 'Compare'}
        </button>
      </div>
      {problem.value && <Problem problem={problem.value} again={compare} />}
      <div role="status">{diff.value && <Counts diff={diff.value} />}</div>
      {diff.value?.different.map((entry, index) => (
        <Difference key={`${diff.value?.from} ${diff.value?.to} ${index}`} module={module} entry={entry} />
      ))}
    </section>
  );
}

interface ChoiceProps {
  label: string;
  chosen: string;
  versions: readonly Version[];
  choose: (version: string) => void;
}

function Choice({ label, chosen, versions, choose }: ChoiceProps) {
  return (
    <label>
      {label}
      <select value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
        {versions.map(({ version, running }) => (
          <option key={version} value={version}>
            {version}
            {running ? ' (running)' : ''}
          </option>
        ))}
      </select>
    </label>
  );
}

function Counts({ diff }: { diff: Diff }) {
  const { messages, same, different } = diff;
  const changed = messages - same;
  return (
    <p>
      {messages === 0 && 'There are no messages to compare on.'}
      {messages === 1 && changed === 0 && 'No outcome differs (1 message).'}
      {messages > 1 && changed === 0 && `The outcomes of all ${plural(messages, 'message')} are the same.`}
      {changed > 0 && `${plural(changed, 'outcome')} of ${plural(messages, 'message')} ${changed === 1 ? 'differs' : 'differ'}.`}
      {different.length < changed && ` The first ${different.length} are shown.`}
    </p>
  );
}

function Difference({ module, entry }: { module: string; entry: Diff['different'][number] }) {
  const open = useSignal(false);
  const { message, from, to: after } = entry;
  const tryIt = () => {
    offer(module, message);
    go(to.try(module));
  };
  return (
    <article class="entry-box">
      <button type="button" class="line" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>
        <span class="twist" aria-hidden="true">
          {open.value ? '▾' : '▸'}
        </span>
        <span class="words">
          <b>{placeOf(message)}</b> {message.subject} <span class="muted">{preview(message, 60)}</span>
          <br />
          {summary(from)} <span aria-hidden="true">⇒</span> <span class="hidden">becomes</span> {summary(after)}
        </span>
      </button>
      {open.value && (
        <div class="inside">
          <Code text={pretty(message)} label="The message" />
          <SideBySide from={from} to={after} />
          <button type="button" onClick={tryIt}>
            Open in the playground
          </button>
        </div>
      )}
    </article>
  );
}

/** The version and the time always differ, so they are left out. */
function shown({ version: _, micros: __, ...rest }: Outcome): string {
  return pretty(rest);
}

function SideBySide({ from, to: after }: { from: Outcome; to: Outcome }) {
  const { pairs, cut } = useMemo(() => align(shown(from), shown(after)), [from, after]);
  return (
    <>
      <div class="diff" role="group" aria-label="Outcomes of the old and the new version" tabIndex={0}>
        <b class="old">Old</b>
        <b class="new">New</b>
        {pairs.map((pair, index) => [
          <Side key={`${index} old`} text={pair.left} same={pair.same} sign="−" kind="old" />,
          <Side key={`${index} new`} text={pair.right} same={pair.same} sign="+" kind="new" />,
        ])}
      </div>
      {cut && <p class="muted">Only the first {MOST_LINES} lines are compared.</p>}
    </>
  );
}

function Side({ text, same, sign, kind }: { text: string | null; same: boolean; sign: string; kind: string }) {
  const look = text === null ? 'empty' : same ? 'same' : 'changed';
  return (
    <code class={`${kind} ${look}`}>
      {look === 'changed' ? sign : ' '} {text ?? ''}
    </code>
  );
}
