// Small pieces that several views show.

import type { ComponentChildren } from 'preact';
import { useMemo } from 'preact/hooks';
import { type ApiError, askForToken, token } from './api';
import { clip, moment } from './format';
import { indent } from './json';

const STATES: Record<string, [sign: string, tone: string]> = {
  running: ['●', 'ok'],
  standby: ['◐', 'accent'],
  starting: ['◌', 'accent'],
  waiting: ['◌', 'warn'],
  draining: ['▾', 'warn'],
  halted: ['■', 'bad'],
  failed: ['✕', 'bad'],
};

export function State({ state }: { state: string }) {
  const [sign, tone] = Object.hasOwn(STATES, state) ? STATES[state] : ['?', 'muted'];
  return (
    <span class={`badge tone-${tone}`}>
      <span aria-hidden="true">{sign}</span> {state}
    </span>
  );
}

export function Moment({ at }: { at: string | null | undefined }) {
  if (!at) return <span class="muted">–</span>;
  return (
    <time dateTime={at} title={at}>
      {moment(at)}
    </time>
  );
}

/** The version in two lines, since the second half often changes alone. */
export function VersionName({ version }: { version: string | null }) {
  if (!version) return <span class="muted">–</span>;
  const dash = version.indexOf('-');
  return (
    <code class="version" title={version}>
      {dash < 0 ? version : version.slice(0, dash)}
      {dash >= 0 && <wbr />}
      {dash >= 0 && <span class="muted">{version.slice(dash)}</span>}
    </code>
  );
}

/** Text with its lines. JSON is laid out. */
export function Code({ text, label }: { text: string; label: string }) {
  const shown = useMemo(() => clip(indent(text)), [text]);
  return (
    <pre class="code" role="group" tabIndex={0} aria-label={label}>
      {shown}
    </pre>
  );
}

interface ProblemProps {
  problem: ApiError;
  again?: () => void;
}

/** What went wrong, with the way on. */
export function Problem({ problem, again }: ProblemProps) {
  const enter = async () => {
    if (await askForToken(problem.message)) again?.();
  };
  return (
    <div class="notice tone-bad" role="alert">
      <p class="words">
        <b>
          <span aria-hidden="true">✕</span> {problem.needsToken ? 'This needs the relay’s token. ' : 'That did not work. '}
        </b>
        {problem.message}
      </p>
      <div class="buttons start">
        {problem.needsToken && (
          <button type="button" onClick={enter}>
            Enter the token
          </button>
        )}
        {again && !problem.needsToken && (
          <button type="button" onClick={again}>
            Try again
          </button>
        )}
      </div>
    </div>
  );
}

/** Says what happened to those who see it and those who hear it. */
export function Result({ text }: { text: string }) {
  return (
    <p class="result words" role="status">
      {text}
    </p>
  );
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Drawn again when the token changes, so that views can load what they could not. */
export function useToken(): string {
  return token.value;
}
