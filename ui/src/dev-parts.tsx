// Pieces of the page of `slipring dev --web`.

import { useMemo } from 'preact/hooks';
import type { Detail, Line, State, Verdict } from './dev-api';
import { clip } from './format';
import { align, MOST_LINES } from './line-diff';
import { OutcomeDetails } from './outcome';
import { Code } from './parts';

const VERDICTS: Record<Verdict, [sign: string, tone: string, word: string]> = {
  passed: ['●', 'ok', 'passed'],
  failed: ['✕', 'bad', 'failed'],
  broken: ['✕', 'bad', 'not run'],
  sample: ['◌', 'muted', 'no expectation'],
};

export function VerdictBadge({ verdict }: { verdict: Verdict }) {
  const [sign, tone, word] = VERDICTS[verdict];
  return (
    <span class={`badge tone-${tone}`}>
      <span aria-hidden="true">{sign}</span> {word}
    </span>
  );
}

/** Whether the module is being built, and how the cases and unit tests are. */
export function Summary({ state }: { state: State }) {
  const { build, module, passed, failed, units } = state;
  const [sign, tone, word] =
    build.state === 'failed'
      ? ['✕', 'bad', 'Build failed']
      : build.state === 'running'
        ? ['◌', 'warn', 'Building']
        : ['●', 'ok', 'Watching'];
  const total = passed + failed;
  return (
    <div class="bar state" role="status">
      <span class={`badge tone-${tone}`}>
        <span aria-hidden="true">{sign}</span> {word}
      </span>
      {module && (
        <span class="muted words">
          {module.how} at {module.at}, {module.kib} KiB
        </span>
      )}
      {total > 0 && (
        <span class={`ink tone-${failed > 0 ? 'bad' : 'ok'}`}>
          {total === 1 ? '1 case' : `${total} cases`}: {passed} passed, {failed} failed
        </span>
      )}
      {units && <span class={`ink tone-${units.passed === null ? 'warn' : units.passed ? 'ok' : 'bad'}`}>{units.line}</span>}
    </div>
  );
}

/** What the compiler and failed unit tests printed. */
export function Trouble({ state }: { state: State }) {
  const { build, output, units } = state;
  return (
    <>
      {build.state === 'failed' && (
        <section class="notice tone-bad" role="alert" aria-labelledby="build">
          <h2 id="build">
            The build failed at {build.at}
            {build.stays && `: ${build.stays}`}
          </h2>
          {output && <Code text={output} label="What the compiler printed" />}
          <p class="words">{build.error}</p>
        </section>
      )}
      {units?.output && (
        <section class="notice tone-bad" aria-labelledby="units">
          <h2 id="units">Unit tests fail</h2>
          <Code text={units.output} label="What the unit tests printed" />
        </section>
      )}
    </>
  );
}

interface ListProps {
  entries: readonly Line[];
  selected: string | null;
  advice: string | null;
  select: (name: string) => void;
}

export function List({ entries, selected, advice, select }: ListProps) {
  return (
    <section class="panel" aria-labelledby="cases">
      <h2 id="cases">Cases and messages</h2>
      {entries.length === 0 && <p class="muted words">{advice ?? 'Nothing has run yet.'}</p>}
      <ul class="entries">
        {entries.map(({ name, is_case, verdict, subject, brief, changed }) => (
          <li key={`${is_case} ${name}`}>
            <button type="button" class="line" aria-current={selected === name} onClick={() => select(name)}>
              <span class="words">
                <b>{name}</b> <VerdictBadge verdict={verdict} />
                {changed && <span class="muted"> changed</span>}
                <small>
                  {subject && (
                    <>
                      {subject} <span aria-hidden="true">→</span>{' '}
                    </>
                  )}
                  {clip(brief, 200)}
                </small>
              </span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** What became of the message, with what differs first. */
export function Made({ detail }: { detail: Detail }) {
  const { error, outcome, difference, output } = detail;
  return (
    <>
      {error !== null && (
        <p class="ink tone-bad words" role="status">
          {error}
        </p>
      )}
      {difference && <Lines {...difference} />}
      {outcome && <OutcomeDetails outcome={outcome} />}
      {output.length > 0 && (
        <>
          <h3>What the module printed</h3>
          <Code text={output.join('\n')} label="What the module printed" />
        </>
      )}
    </>
  );
}

function Lines({ signs, old, new: now }: { signs: string; old: string; new: string }) {
  const { pairs, cut } = useMemo(() => align(old, now), [old, now]);
  return (
    <>
      <h3>
        Difference <small>{signs}</small>
      </h3>
      <div class="lines-of" role="group" aria-label={`Difference: ${signs}`} tabIndex={0}>
        {pairs.map(({ left, right, same }, index) =>
          same ? (
            <code key={index}>{`  ${left}`}</code>
          ) : (
            [
              left !== null && (
                <code key={`${index} old`} class="old">
                  {`- ${left}`}
                </code>
              ),
              right !== null && (
                <code key={`${index} new`} class="new">
                  {`+ ${right}`}
                </code>
              ),
            ]
          ),
        )}
      </div>
      {cut && <p class="muted">Only the first {MOST_LINES} lines are compared.</p>}
    </>
  );
}
