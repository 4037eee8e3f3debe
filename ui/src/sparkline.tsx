// A small chart in a row, without axes. The number beside it says the same to those who do not see it.

import { useLayoutEffect, useRef } from 'preact/hooks';
import { now } from './live';
import type { Ring } from './ring';
import { color, repaint } from './theme';
import type { Field } from './types';

const WIDTH = 88;
const HEIGHT = 22;

export function Sparkline({ ring, field, at }: { ring: Ring; field: Field; at: number }) {
  const place = useRef<HTMLCanvasElement>(null);
  const painted = repaint.value;
  useLayoutEffect(() => {
    if (place.current) draw(place.current, ring.columns([field], now).values[0]);
  }, [at, painted]);
  return <canvas ref={place} class="spark" aria-hidden="true" />;
}

function draw(canvas: HTMLCanvasElement, values: (number | null)[]): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const width = Math.round(WIDTH * devicePixelRatio);
  const height = Math.round(HEIGHT * devicePixelRatio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  context.clearRect(0, 0, width, height);
  const high = values.reduce<number>((most, value) => Math.max(most, value ?? 0), 0) || 1;
  context.strokeStyle = color('c1');
  context.lineWidth = 1.2 * devicePixelRatio;
  context.beginPath();
  let open = false;
  values.forEach((value, index) => {
    if (value === null) {
      open = false;
      return;
    }
    const x = (index / (values.length - 1)) * width;
    const y = height - 2 - (value / high) * (height - 4);
    if (open) context.lineTo(x, y);
    else context.moveTo(x, y);
    open = true;
  });
  context.stroke();
}
