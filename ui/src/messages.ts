// Messages on their way into the playground.

import { signal } from '@preact/signals';
import { compact, held, pretty } from './json';
import type { FullLetter, Tapped, TryMessage } from './types';

/** What the playground opens with. */
export const draft = signal<{ module: string; text: string } | null>(null);

export function offer(module: string, message: TryMessage): void {
  draft.value = { module, text: pretty(message) };
}

interface Content {
  payload?: string | null;
  payload_base64?: string | null;
}

/** JSON becomes `data`, which people can read and change, unless something in it would be lost. */
function content({ payload, payload_base64: base64 }: Content): Pick<TryMessage, 'data' | 'payload' | 'payload_base64'> {
  if (typeof payload === 'string') {
    const json = held(payload);
    return json ? { data: json.value } : { payload };
  }
  return { payload_base64: base64 ?? '' };
}

function place(sequence: number | string | null): Pick<TryMessage, 'sequence' | 'id'> {
  if (sequence === null) return {};
  return typeof sequence === 'string' ? { id: sequence } : { sequence };
}

export function ofLetter(letter: FullLetter): TryMessage {
  const headers: Record<string, string[]> = Object.create(null);
  for (const [name, value] of letter.headers) (headers[name] ??= []).push(value);
  return {
    subject: letter.subject ?? '',
    ...(letter.headers.length > 0 ? { headers } : {}),
    ...content(letter),
    ...(letter.stream === null ? {} : { stream: letter.stream }),
    ...place(letter.sequence),
  };
}

export function ofTapped(tapped: Tapped): TryMessage {
  return {
    subject: tapped.subject,
    ...(Object.keys(tapped.headers ?? {}).length > 0 ? { headers: tapped.headers } : {}),
    ...content(tapped),
    ...(tapped.stream ? { stream: tapped.stream } : {}),
    ...place(tapped.sequence),
    ...(tapped.timestamp ? { timestamp: tapped.timestamp } : {}),
  };
}

/** A few words of the payload, for a list. */
export function preview(message: TryMessage, longest = 120): string {
  const text =
    message.data !== undefined ? compact(message.data) : (message.payload ?? `base64 ${message.payload_base64 ?? ''}`);
  return text.length > longest ? `${text.slice(0, longest)}…` : text;
}

export const ONLY_A_PART = 'The message was cut short, so it cannot be tried.';

export function placeOf(message: { sequence?: unknown; id?: string }): string {
  const { id, sequence } = message;
  const place = id ?? sequence;
  if (place === undefined || place === null) return '';
  return typeof place === 'string' ? place : compact(place);
}
