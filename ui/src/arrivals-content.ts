// What a publication holds, as text that people can read.

import { clip } from './format';
import { compact, parse } from './json';
import type { Publication } from './types';

export interface Content {
  kind: 'json' | 'text' | 'binary';
  /** JSON in one line, other text as it is, or base64. */
  text: string;
  /** The members of a JSON object. */
  fields: readonly (readonly [name: string, value: string])[];
}

/** Nobody reads more of a publication, in characters. */
const LONGEST = 20_000;
/** Nobody reads more of one of its members. */
const LONGEST_MEMBER = 500;
/** Only the beginning of what is longer is looked at, in bytes. */
const MOST_BYTES = 1 << 20;

const utf8 = new TextDecoder('utf-8', { fatal: true });

export function contentOf(data: Uint8Array): Content {
  if (data.length > MOST_BYTES) return { kind: 'text', text: beginning(data), fields: [] };
  let text: string;
  try {
    text = utf8.decode(data);
  } catch {
    return { kind: 'binary', text: clip(base64(data), LONGEST), fields: [] };
  }
  try {
    return ofValue(parse<unknown>(text));
  } catch {
    return { kind: 'text', text: clip(text, LONGEST), fields: [] };
  }
}

/** Returns what arrives where this is published, or null if the tap has cut it short. */
export function contentOfTapped({ data, binary_base64: binary, truncated }: Publication): Content | null {
  if (truncated) return null;
  if (typeof binary === 'string') return { kind: 'binary', text: clip(binary, LONGEST), fields: [] };
  return ofValue(data);
}

function ofValue(value: unknown): Content {
  const text = compact(value);
  return { kind: 'json', text: clip(text, LONGEST), fields: text.startsWith('{') ? fieldsOf(value as object) : [] };
}

function fieldsOf(value: object): [string, string][] {
  return Object.entries(value).map(([name, member]) => [name, clip(typeof member === 'string' ? member : compact(member), LONGEST_MEMBER)]);
}

function beginning(data: Uint8Array): string {
  const text = new TextDecoder().decode(data.subarray(0, LONGEST));
  return `${text}\n… ${data.length - LONGEST} more bytes are not shown`;
}

function base64(data: Uint8Array): string {
  let text = '';
  for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
  return btoa(text);
}
