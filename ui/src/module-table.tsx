// All modules, sorted and filtered. Small charts are drawn only in rows that are in view.

import { type Signal, useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { count, duration, milliseconds, rate, versionOf } from './format';
import { beat, type Live, modules, names, tick } from './live';
import { Moment, State, VersionName } from './parts';
import { to } from './route';
import { Sparkline } from './sparkline';
import { useVisible } from './visible';

type Key = 'name' | 'state' | 'published' | 'backlog' | 'latency' | 'rejected' | 'version' | 'since';
type Order = { key: Key; down: boolean };

interface Column {
  key: Key;
  title: string;
  /** Numbers begin with the largest. */
  down: boolean;
  value: (live: Live) => string | number;
}

const module = (live: Live) => live.module.peek();

const COLUMNS: readonly Column[] = [
  { key: 'name', title: 'Module', down: false, value: (live) => live.name },
  { key: 'state', title: 'State', down: false, value: (live) => module(live).state },
  { key: 'published', title: 'Published/s', down: true, value: (live) => live.sample?.published ?? -1 },
  { key: 'backlog', title: 'Backlog', down: true, value: (live) => module(live).lag_messages ?? -1 },
  { key: 'latency', title: 'Latency p99', down: true, value: (live) => live.sample?.latency_p99_ms ?? -1 },
  { key: 'rejected', title: 'Rejected', down: true, value: (live) => module(live).rejected },
  { key: 'version', title: 'Version', down: false, value: (live) => module(live).sha256 ?? '' },
  { key: 'since', title: 'Running since', down: true, value: (live) => module(live).running_since ?? '' },
];

/** More modules than these get a filter. */
const FEW = 8;

function arrange(filter: string, { key, down }: Order): Live[] {
  const column = COLUMNS.find((column) => column.key === key) ?? COLUMNS[0];
  const wanted = filter.trim().toLowerCase();
  const rows = [...modules.values()].filter((live) => live.name.toLowerCase().includes(wanted));
  const values = new Map(rows.map((live) => [live, column.value(live)]));
  const compare = (a: Live, b: Live): number => {
    const [left, right] = [values.get(a) ?? '', values.get(b) ?? ''];
    const by = typeof left === 'number' ? left - Number(right) : left.localeCompare(String(right));
    return (down ? -by : by) || a.name.localeCompare(b.name);
  };
  return rows.sort(compare);
}

export function ModuleTable() {
  const filter = useSignal('');
  const order = useSignal<Order>({ key: 'name', down: false });
  // Rows keep their place for five seconds, or they would jump about.
  beat.value;
  const total = names.value.length;
  const rows = arrange(filter.value, order.value);
  return (
    <section class="panel" aria-labelledby="modules">
      <div class="bar">
        <h2 id="modules">Modules</h2>
        {total > FEW && (
          <label>
            Filter by name
            <input type="search" value={filter.value} onInput={(event) => (filter.value = event.currentTarget.value)} />
          </label>
        )}
        <SortSelect order={order} />
        <span class="muted" role="status">
          {filter.value ? `${rows.length} of ${total}` : ''}
        </span>
      </div>
      {total === 0 && <p class="muted">The relay has no modules. Put a .wasm file and its .toml into the modules directory.</p>}
      {total > 0 && (
        <table class="cards modules" role="table">
          <thead role="rowgroup">
            <tr role="row">
              {COLUMNS.map((column) => (
                <Heading key={column.key} column={column} order={order} />
              ))}
            </tr>
          </thead>
          <tbody role="rowgroup">
            {rows.map((live) => (
              <Row key={live.name} live={live} />
            ))}
          </tbody>
        </table>
      )}
      {total > 0 && rows.length === 0 && <p class="muted">No module matches this filter.</p>}
    </section>
  );
}

function Heading({ column, order }: { column: Column; order: Signal<Order> }) {
  const { key, title } = column;
  const { key: sorted, down } = order.value;
  const chosen = sorted === key;
  const sort = () => (order.value = { key, down: chosen ? !down : column.down });
  return (
    <th scope="col" role="columnheader" aria-sort={chosen ? (down ? 'descending' : 'ascending') : undefined}>
      <button type="button" class="sort" onClick={sort}>
        {title} <span aria-hidden="true">{chosen ? (down ? '▾' : '▴') : ''}</span>
      </button>
    </th>
  );
}

/** Where there is no room for headings. */
function SortSelect({ order }: { order: Signal<Order> }) {
  const choose = (key: string) => {
    const column = COLUMNS.find((column) => column.key === key) ?? COLUMNS[0];
    order.value = { key: column.key, down: column.down };
  };
  return (
    <label class="narrow-only">
      Sort by
      <select value={order.value.key} onChange={(event) => choose(event.currentTarget.value)}>
        {COLUMNS.map((column) => (
          <option key={column.key} value={column.key}>
            {column.title}
          </option>
        ))}
      </select>
    </label>
  );
}

function Row({ live }: { live: Live }) {
  const place = useRef<HTMLTableRowElement>(null);
  const visible = useVisible(place).value;
  const now = live.module.value;
  const at = tick.value;
  const { sample } = live;
  return (
    <tr ref={place} role="row">
      <th scope="row" role="rowheader" data-label="Module">
        <a href={to.module(live.name)}>{live.name}</a>
      </th>
      <td role="cell" data-label="State">
        <State state={now.state} />
        {now.reason && <small class="reason words">{now.reason}</small>}
      </td>
      <td role="cell" data-label="Published/s">
        <span class="rate">
          <span class="number">{rate(sample?.published)}</span>
          {visible && <Sparkline ring={live.ring} field="published" at={at} />}
        </span>
      </td>
      <td role="cell" data-label="Backlog">
        {count(now.lag_messages)} <small>{now.lag_seconds === null ? '' : duration(now.lag_seconds)}</small>
      </td>
      <td role="cell" data-label="Latency">
        {milliseconds(sample?.latency_p99_ms)} <small>p50 {milliseconds(sample?.latency_p50_ms)}</small>
      </td>
      <td role="cell" data-label="Rejected">
        {count(now.rejected)} <small>{rate(sample?.rejected)}/s</small>
      </td>
      <td role="cell" data-label="Version">
        <VersionName version={versionOf(now.sha256, now.toml_sha256)} />
      </td>
      <td role="cell" data-label="Running since">
        <Moment at={now.running_since} />
      </td>
    </tr>
  );
}
