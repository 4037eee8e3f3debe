// The whole relay at a glance.

import { Chart, type Line } from './chart';
import { briefly, count, duration, milliseconds, rate } from './format';
import { all, marks, modules, now, status, sum, tick } from './live';
import { MarkList, recent } from './marks';
import { ModuleTable } from './module-table';
import { Fact } from './parts';
import { to } from './route';
import { Servers } from './servers';
import type { Finding } from './types';

export function Overview() {
  return (
    <>
      <h1 tabIndex={-1}>Overview</h1>
      {status.value === null ? <p class="muted">Waiting for the relay…</p> : <Loaded />}
    </>
  );
}

function Loaded() {
  return (
    <>
      <Findings />
      <Servers />
      <Charts />
      <Marks />
      <ModuleTable />
    </>
  );
}

function Findings() {
  const known = status.value;
  if (!known) return null;
  return (
    <>
      <FindingList title="Not ready" tone="bad" sign="✕" findings={known.obstacles} />
      <FindingList title="Warnings" tone="warn" sign="!" findings={known.warnings} />
    </>
  );
}

interface FindingListProps {
  title: string;
  tone: string;
  sign: string;
  findings: readonly Finding[];
}

const MOST = 20;

export function FindingList({ title, tone, sign, findings }: FindingListProps) {
  if (findings.length === 0) return null;
  return (
    <section class={`notice tone-${tone}`} aria-label={title}>
      <h2>
        <span aria-hidden="true">{sign}</span> {title}
      </h2>
      <ul>
        {findings.slice(0, MOST).map((finding, index) => (
          <li key={index} class="words">
            {finding.module !== null && finding.module !== undefined && (
              <>
                <a href={to.module(finding.module)}>{finding.module}</a>{' '}
              </>
            )}
            {finding.text}
          </li>
        ))}
      </ul>
      {findings.length > MOST && <p>{count(findings.length - MOST)} more in the table below.</p>}
    </section>
  );
}

const RATES: readonly Line[] = [
  { label: 'published', color: 'c1', fill: true },
  { label: 'rejected', color: 'c2', dash: [6, 3] },
];
const BACKLOG: readonly Line[] = [{ label: 'messages', color: 'c3', fill: true }];
const LATENCY: readonly Line[] = [
  { label: 'p99', color: 'c4' },
  { label: 'p50', color: 'c5', dash: [6, 3] },
];

function Charts() {
  tick.value;
  const shown = recent(marks.value);
  const rates = all.columns(['published', 'rejected'], now);
  const backlog = all.columns(['lag_messages'], now);
  const latency = all.columns(['latency_p99_ms', 'latency_p50_ms'], now);
  return (
    <section aria-label="Charts of the last 15 minutes">
      <dl class="numbers">
        <Fact name="Published per second">{rate(sum?.published)}</Fact>
        <Fact name="Rejected per second">{rate(sum?.rejected)}</Fact>
        <Fact name="Backlog">{count(sum?.lag_messages)}</Fact>
        <Fact name="Oldest message">{duration(sum?.lag_seconds)}</Fact>
        <Fact name="Latency p99">{milliseconds(sum?.latency_p99_ms)}</Fact>
      </dl>
      <div class="charts">
        <Chart title="Messages per second" lines={RATES} columns={rates} end={now} marks={shown} format={rate} />
        <Chart title="Backlog" lines={BACKLOG} columns={backlog} end={now} marks={shown} format={count} />
        <Chart
          title={modules.size > 1 ? 'Highest latency' : 'Latency'}
          lines={LATENCY}
          columns={latency}
          end={now}
          marks={shown}
          format={milliseconds}
          axis={briefly}
        />
      </div>
    </section>
  );
}

function Marks() {
  // Old ones go as time passes.
  tick.value;
  return <MarkList list={recent(marks.value)} few={4} />;
}
