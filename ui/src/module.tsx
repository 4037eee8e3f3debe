// One module: its numbers, its charts, its versions.

import { useEffect, useMemo } from 'preact/hooks';
import { get, query } from './api';
import { Chart, type Line } from './chart';
import { Compare } from './compare';
import { briefly, bytes, count, duration, milliseconds, rate } from './format';
import { connections, type Live, listen, marks, modules, names, now, status, tick, unroll } from './live';
import { MarkList, recent } from './marks';
import { FindingList } from './overview';
import { Fact, Moment, State } from './parts';
import { Ring } from './ring';
import { to } from './route';
import type { History } from './types';
import { useVersions, VersionsPanel } from './versions';

export function ModuleView({ name }: { name: string }) {
  names.value;
  const live = modules.get(name);
  return (
    <>
      <p class="crumbs">
        <a href={to.overview()}>Overview</a> <span aria-hidden="true">›</span> Module
      </p>
      <h1 tabIndex={-1} class="words">
        {name}
      </h1>
      {live ? (
        <Loaded live={live} />
      ) : (
        <p>{status.value === null ? 'Waiting for the relay…' : 'The relay has no module of this name now.'}</p>
      )}
    </>
  );
}

function Loaded({ live }: { live: Live }) {
  const { name } = live;
  const versions = useVersions(live);
  return (
    <>
      <Head live={live} />
      <Charts live={live} />
      <VersionsPanel live={live} kept={versions} />
      <Compare module={name} versions={versions.list.value?.versions ?? []} />
      <Counters live={live} />
      <Marks name={name} />
    </>
  );
}

function Head({ live }: { live: Live }) {
  const { name } = live;
  const module = live.module.value;
  const known = status.value;
  const mine = (findings: NonNullable<typeof known>['obstacles']) => findings.filter((finding) => finding.module === name);
  return (
    <>
      <p class="bar">
        <State state={module.state} />
        <span class="muted">
          since <Moment at={module.since} />
        </span>
        {module.reason && <span class="words">{module.reason}</span>}
      </p>
      <p class="bar">
        <a href={to.deadLetters({ module: name })}>Dead letters</a>
        <a href={to.tap(name)}>Tap</a>
        <a href={to.try(name)}>Playground</a>
      </p>
      {known && <FindingList title="Not ready" tone="bad" sign="✕" findings={mine(known.obstacles)} />}
      {known && <FindingList title="Warnings" tone="warn" sign="!" findings={mine(known.warnings)} />}
    </>
  );
}

const RATES: readonly Line[] = [
  { label: 'published', color: 'c1', fill: true },
  { label: 'received', color: 'c4', dash: [2, 2] },
  { label: 'rejected', color: 'c2', dash: [6, 3] },
];
const BACKLOG: readonly Line[] = [{ label: 'messages', color: 'c3', fill: true }];
const LATENCY: readonly Line[] = [
  { label: 'p99', color: 'c4' },
  { label: 'p50', color: 'c5', dash: [6, 3] },
];

/** Keeps every second of this module for as long as the view is open. */
function useSeconds(name: string): Ring {
  const ring = useMemo(() => new Ring(1), [name]);
  useEffect(
    () =>
      listen((event) => {
        const sample = Object.hasOwn(event.samples, name) ? event.samples[name] : null;
        if (sample) ring.add(event.time, sample);
      }),
    [ring],
  );
  const connection = connections.value;
  useEffect(() => {
    if (connection === 0) return;
    const abort = new AbortController();
    get<History>(`history${query({ step: 1, module: name })}`, { signal: abort.signal, ask: false })
      .then((history) => unroll(history, (other) => (other === name ? ring : undefined)))
      // Without a history, the charts begin now.
      .catch(() => undefined);
    return () => abort.abort();
  }, [ring, connection]);
  return ring;
}

function Charts({ live }: { live: Live }) {
  const ring = useSeconds(live.name);
  tick.value;
  const { sample } = live;
  const module = live.module.value;
  const shown = recent(marks.value, live.name);
  const rates = ring.columns(['published', 'received', 'rejected'], now);
  const backlog = ring.columns(['lag_messages'], now);
  const latency = ring.columns(['latency_p99_ms', 'latency_p50_ms'], now);
  return (
    <section aria-label="Numbers and charts of the last 15 minutes">
      <dl class="numbers">
        <Fact name="Published per second">{rate(sample?.published)}</Fact>
        <Fact name="Received per second">{rate(sample?.received)}</Fact>
        <Fact name="Rejected per second">{rate(sample?.rejected)}</Fact>
        <Fact name="Backlog">{count(module.lag_messages)}</Fact>
        <Fact name="Oldest message">{duration(module.lag_seconds)}</Fact>
        <Fact name="Latency p50">{milliseconds(sample?.latency_p50_ms)}</Fact>
        <Fact name="Latency p99">{milliseconds(sample?.latency_p99_ms)}</Fact>
      </dl>
      <div class="charts">
        <Chart title="Messages per second" lines={RATES} columns={rates} end={now} marks={shown} format={rate} />
        <Chart title="Backlog" lines={BACKLOG} columns={backlog} end={now} marks={shown} format={count} />
        <Chart
          title="Latency from stored to settled"
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

function Counters({ live }: { live: Live }) {
  const module = live.module.value;
  const { backlog } = module;
  return (
    <section class="panel" aria-labelledby="counters">
      <h2 id="counters">Source and counters</h2>
      <dl class="facts">
        <Fact name="Stream">
          <span class="words">{module.stream ?? '–'}</span>
        </Fact>
        <Fact name="Consumer">
          <span class="words">{module.consumer ?? '–'}</span>
          {backlog?.paused && <small>paused</small>}
        </Fact>
        <Fact name="Not delivered">{count(backlog?.pending)}</Fact>
        <Fact name="Not acknowledged">{count(backlog?.ack_pending)}</Fact>
        <Fact name="Stalled for">{backlog ? duration(backlog.stalled_seconds) : '–'}</Fact>
        <Fact name="Window">
          {count(module.window_messages)} <small>{bytes(module.window_bytes)}</small>
        </Fact>
        <Fact name="Received">{count(module.received)}</Fact>
        <Fact name="Transformed">{count(module.transformed)}</Fact>
        <Fact name="Published">{count(module.published)}</Fact>
        <Fact name="Dropped">{count(module.dropped)}</Fact>
        <Fact name="Rejected">{count(module.rejected)}</Fact>
        <Fact name="Expired">{count(module.expired)}</Fact>
        <Fact name="Conflated">{count(module.conflated)}</Fact>
        <Fact name="Missed">{count(module.missed)}</Fact>
        <Fact name="Retried">{count(module.retried)}</Fact>
        <Fact name="Swaps">{count(module.swaps)}</Fact>
        <Fact name="Refused swaps">{count(module.refused_swaps)}</Fact>
        <Fact name="Rollbacks">{count(module.rollbacks)}</Fact>
      </dl>
    </section>
  );
}

function Marks({ name }: { name: string }) {
  // Old ones go as time passes.
  tick.value;
  return <MarkList list={recent(marks.value, name)} />;
}
