// Numbers and times as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const two = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });

export const UNKNOWN = '–';

type Maybe = number | null | undefined;

const known = (value: Maybe): value is number => typeof value === 'number' && Number.isFinite(value);

export function count(value: Maybe): string {
  return known(value) ? whole.format(value) : UNKNOWN;
}

export function rate(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  return value < 10 ? one.format(value) : whole.format(value);
}

/** For axes, where there is little room. */
export function short(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  if (value >= 1e9) return `${one.format(value / 1e9)}G`;
  if (value >= 1e6) return `${one.format(value / 1e6)}M`;
  if (value >= 1e4) return `${one.format(value / 1e3)}k`;
  return two.format(value);
}

export function milliseconds(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  if (value >= 1000) return duration(value / 1000);
  return `${value > 0 && value < 10 ? value.toFixed(2) : whole.format(value)} ms`;
}

/** For an axis, where there is little room. */
export function briefly(value: number): string {
  return value < 1000 ? `${short(value)} ms` : `${short(value / 1000)} s`;
}

export function micros(value: Maybe): string {
  return known(value) ? `${whole.format(value)} µs` : '';
}

/** Two units at most: `4 min 10 s`. */
export function duration(seconds: Maybe): string {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 1) return seconds <= 0 ? '0 s' : `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${one.format(seconds)} s`;
  const units: [string, number][] = [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ];
  const total = Math.round(seconds);
  const first = units.findIndex(([, size]) => total >= size);
  const [name, size] = units[first];
  const next = units[first + 1];
  const rest = next ? Math.floor((total % size) / next[1]) : 0;
  return `${whole.format(Math.floor(total / size))} ${name}${rest > 0 ? ` ${rest} ${next[0]}` : ''}`;
}

export function bytes(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  if (value < 1024) return `${whole.format(value)} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let amount = value / 1024;
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${one.format(amount)} ${units[unit]}`;
}

const two0 = (value: number): string => String(value).padStart(2, '0');

/** `12:03:04` of the reader's time zone. */
export function clock(seconds: number): string {
  const date = new Date(seconds * 1000);
  return `${two0(date.getHours())}:${two0(date.getMinutes())}:${two0(date.getSeconds())}`;
}

export function hoursAndMinutes(seconds: number): string {
  return clock(seconds).slice(0, 5);
}

const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const dayAndYear = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

/** The time of day, with the date unless it is today. Text that is no time is returned as it is. */
export function moment(text: string | null | undefined, now = Date.now()): string {
  if (!text) return UNKNOWN;
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  const time = clock(date.getTime() / 1000);
  const today = new Date(now);
  if (date.toDateString() === today.toDateString()) return time;
  return `${(date.getFullYear() === today.getFullYear() ? day : dayAndYear).format(date)}, ${time}`;
}

/** The name of a version, from its two hashes. */
export function versionOf(wasm: string | null | undefined, toml: string | null | undefined): string | null {
  if (!wasm) return null;
  return toml ? `${wasm.slice(0, 12)}-${toml.slice(0, 12)}` : wasm.slice(0, 12);
}

/** `1 message`, `2 messages`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Cuts a text that nobody would read to its end. */
export function clip(text: string, longest = 60_000): string {
  if (text.length <= longest) return text;
  return `${text.slice(0, longest)}\n… ${count(text.length - longest)} more characters are not shown`;
}
