// The versions of a module that the relay keeps, and the ways back and forth between them.

import { type Signal, useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type ApiError, command, get, problemOf, query } from './api';
import { confirm } from './dialog';
import { rescueFocus } from './focus';
import { moment, versionOf } from './format';
import type { Live } from './live';
import { Moment, Problem, Result, useToken, VersionName } from './parts';
import type { Version, Versions } from './types';

export const versionsPath = (module: string) => `modules/${encodeURIComponent(module)}/versions`;

/** Changes whenever the list of versions may have changed. */
function stateOf(live: Live): string {
  const { sha256, toml_sha256, swaps, rollbacks, refused_swaps, last_refusal, running_since } = live.module.value;
  return [sha256, toml_sha256, swaps, rollbacks, refused_swaps, last_refusal, running_since].join();
}

interface Kept {
  list: Signal<Versions | null>;
  problem: Signal<ApiError | null>;
  load: () => void;
}

/** Loads the versions, and again whenever something changes. */
export function useVersions(live: Live): Kept {
  const list = useSignal<Versions | null>(null);
  const problem = useSignal<ApiError | null>(null);
  const again = useSignal(0);
  const token = useToken();

  useEffect(() => {
    const abort = new AbortController();
    get<Versions>(versionsPath(live.name), { signal: abort.signal, ask: false }).then(
      (versions) => {
        list.value = versions;
        problem.value = null;
      },
      (error) => (problem.value = problemOf(error) ?? problem.value),
    );
    return () => abort.abort();
  }, [stateOf(live), again.value, token]);
  return { list, problem, load: () => (again.value += 1) };
}

export function VersionsPanel({ live, kept: { list, problem, load } }: { live: Live; kept: Kept }) {
  const { name } = live;
  const result = useSignal('');
  const busy = useSignal(false);

  const run = async (path: string) => {
    if (busy.value) return;
    busy.value = true;
    result.value = '';
    try {
      result.value = await command(`modules/${encodeURIComponent(name)}/${path}`);
    } catch (error) {
      const failed = problemOf(error);
      result.value = failed ? `✕ ${failed.message}` : '';
    }
    busy.value = false;
    load();
    // The button may be gone that rolled back.
    setTimeout(rescueFocus, 500);
  };
  const rollBack = async (version: Version, running: string | null) => {
    const yes = await confirm({
      title: `Roll back ${name}?`,
      text: (
        <>
          <p>
            It now runs <code>{running ?? 'no version'}</code>.
          </p>
          <p>
            It will run <code>{version.version}</code>, which took over at {moment(version.since)}.
          </p>
          <p>The files in the modules directory are loaded again when they change, or when you choose “Load the files again”.</p>
        </>
      ),
      action: 'Roll back',
      danger: true,
    });
    if (yes) await run(`rollback${query({ version: version.version })}`);
  };

  const halted = live.module.value.state === 'halted';
  return (
    <section class="panel" aria-labelledby="versions">
      <div class="bar">
        <h2 id="versions">Versions</h2>
        <button type="button" aria-disabled={busy.value} onClick={() => run('retry')}>
          {halted ? 'Resume' : 'Load the files again'}
        </button>
      </div>
      <Result text={result.value} />
      {problem.value && <Problem problem={problem.value} again={load} />}
      {list.value && <Troubles versions={list.value} />}
      {list.value && <Table versions={list.value} busy={busy.value} rollBack={rollBack} />}
    </section>
  );
}

function Troubles({ versions: { rolled_back: back, last_refusal: refusal } }: { versions: Versions }) {
  return (
    <>
      {refusal && (
        <p class="notice tone-warn words">
          <b>
            <span aria-hidden="true">⊘</span> The newest files were refused:
          </b>{' '}
          {refusal}
        </p>
      )}
      {back && (
        <p class="notice tone-warn words">
          <b>
            <span aria-hidden="true">↩</span> Rolled back at <Moment at={back.at} />:
          </b>{' '}
          {back.reason.replace(/\.?$/, '.')} The version in the directory is <code>{versionOf(back.sha256, back.toml_sha256)}</code>.
        </p>
      )}
    </>
  );
}

interface TableProps {
  versions: Versions;
  busy: boolean;
  rollBack: (version: Version, running: string | null) => void;
}

function Table({ versions: { versions }, busy, rollBack }: TableProps) {
  const running = versions.find((version) => version.running)?.version ?? null;
  if (versions.length === 0) return <p class="muted">The relay keeps no version of this module yet.</p>;
  return (
    <table class="cards" role="table">
      <thead role="rowgroup">
        <tr role="row">
          {['Version', 'Took over', 'Probe', 'Trial', 'State'].map((title) => (
            <th key={title} scope="col" role="columnheader">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {versions.map((version) => (
          <tr key={`${version.version} ${version.since}`} role="row">
            <th scope="row" role="rowheader" data-label="Version">
              <VersionName version={version.version} />
            </th>
            <td role="cell" data-label="Took over">
              <Moment at={version.since} />
            </td>
            <td role="cell" data-label="Probe" class="words">
              {version.probe ?? '–'}
            </td>
            <td role="cell" data-label="Trial" class="words">
              {version.trial ?? '–'}
            </td>
            <td role="cell" data-label="State">
              {version.running ? (
                <span class="badge tone-ok">
                  <span aria-hidden="true">●</span> running
                </span>
              ) : (
                <button
                  type="button"
                  aria-disabled={busy}
                  onClick={() => rollBack(version, running)}
                >
                  Roll back to this version<span class="hidden">: {version.version}</span>
                </button>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
