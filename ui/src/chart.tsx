// A chart over time. uPlot draws on a canvas; what it shows is also said in words.

import { useSignal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { clock, hoursAndMinutes, short, UNKNOWN } from './format';
import { lookOf } from './marks';
import { type Columns, WINDOW_SECONDS } from './ring';
import { color, repaint } from './theme';
import type { Mark } from './types';

export interface Line {
  label: string;
  /** The name of a colour. */
  color: string;
  dash?: number[];
  fill?: boolean;
}

interface Props {
  title: string;
  lines: readonly Line[];
  columns: Columns;
  /** Seconds since 1970, at the right edge. */
  end: number;
  marks: readonly Mark[];
  format: (value: number | null) => string;
  /** For the axis, where there is little room. */
  axis?: (value: number) => string;
}

const HEIGHT = 150;
const FONT = '11px system-ui, sans-serif';

export function Chart(props: Props) {
  const { title, lines, columns, format } = props;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const current = useRef(props);
  current.current = props;
  const hovered = useSignal<number | null>(null);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = create(element, current, (index) => {
      hovered.value = index;
    });
    plot.current = made;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0 && element.clientWidth !== made.width) {
        made.setSize({ width: element.clientWidth, height: HEIGHT });
      }
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, []);

  useLayoutEffect(() => {
    plot.current?.setData(dataOf(columns));
  }, [columns, props.marks]);

  const painted = repaint.value;
  useLayoutEffect(() => {
    plot.current?.redraw(true, true);
  }, [painted]);

  const last = columns.times.length - 1;
  const index = hovered.value === null || hovered.value > last ? null : hovered.value;
  return (
    <figure class="chart">
      <figcaption>
        <span class="title">{title}</span>
        <span class="muted">{index === null ? '' : `at ${clock(columns.times[index])}`}</span>
        <span class="legend">
          {lines.map((line, at) => (
            <span key={line.label} class="entry">
              <i class={`swatch bg-${line.color}`} aria-hidden="true" />
              {line.label} <b>{format(columns.values[at][index ?? latest(columns.values[at])])}</b>{' '}
            </span>
          ))}
        </span>
      </figcaption>
      <div class="canvas" ref={place} role="img" aria-label={inWords(props)} />
    </figure>
  );
}

function dataOf(columns: Columns): uPlot.AlignedData {
  return [columns.times, ...columns.values];
}

/** The newest slot may not have its sample yet. */
function latest(values: (number | null)[]): number {
  const last = values.length - 1;
  return values[last] === null && last > 0 ? last - 1 : last;
}

function inWords({ title, lines, columns, format }: Props): string {
  const sentences = lines.map((line, at) => {
    const values = columns.values[at];
    let [low, high]: (number | null)[] = [null, null];
    for (const value of values) {
      if (value === null) continue;
      if (low === null || value < low) low = value;
      if (high === null || value > high) high = value;
    }
    if (low === null) return `${line.label}: nothing known`;
    return `${line.label}: now ${format(values[latest(values)])}, lowest ${format(low)}, highest ${format(high)}`;
  });
  return `${title}, last 15 minutes. ${sentences.join('. ')}.`.replaceAll(UNKNOWN, 'unknown');
}

function create(
  element: HTMLElement,
  current: { readonly current: Props },
  hover: (index: number | null) => void,
): uPlot {
  const { lines, columns, axis = short } = current.current;
  const stroke = () => color('muted');
  const grid = { stroke: () => color('grid'), width: 1 };
  const ticks = { show: false };
  const options: uPlot.Options = {
    width: element.clientWidth || 320,
    height: HEIGHT,
    padding: [14, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'slipring' }, points: { size: 6 } },
    scales: {
      x: {
        time: true,
        range: () => [current.current.end - WINDOW_SECONDS, current.current.end],
      },
      y: { range: (_, __, high) => [0, high > 0 ? high * 1.08 : 1] },
    },
    axes: [
      {
        stroke,
        grid,
        ticks,
        font: FONT,
        size: 24,
        space: 60,
        values: (_, splits) => splits.map((time) => hoursAndMinutes(time)),
      },
      { stroke, grid, ticks, font: FONT, size: 46, space: 34, values: (_, splits) => splits.map((value) => axis(value)) },
    ],
    series: [
      {},
      ...lines.map((line): uPlot.Series => ({
        label: line.label,
        stroke: () => color(line.color),
        fill: line.fill ? () => color(`${line.color}-fill`) : undefined,
        width: 1.5,
        dash: line.dash,
        points: { size: 4 },
      })),
    ],
    hooks: {
      draw: [(plot) => drawMarks(plot, current.current.marks)],
      setCursor: [(plot) => hover(plot.cursor.idx ?? null)],
    },
  };
  return new uPlot(options, dataOf(columns), element);
}

function drawMarks(plot: uPlot, marks: readonly Mark[]): void {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  let free = -Infinity;
  ctx.save();
  ctx.lineWidth = ratio;
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = 'center';
  ctx.textBaseline = 'bottom';
  for (const mark of marks) {
    const x = Math.round(plot.valToPos(mark.time, 'x', true)) + 0.5;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    const look = lookOf(mark.kind);
    ctx.strokeStyle = color(look.tone);
    ctx.fillStyle = color(look.tone);
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    // Signs that would overlap are left out; the list below the charts has them all.
    if (x < free) continue;
    ctx.fillText(look.sign, x, bbox.top - ratio);
    free = x + 11 * ratio;
  }
  ctx.restore();
}
