// JSON that stays as it was sent. `JSON.parse` rounds long numbers, such as the identifiers in many payloads.

type Reviver = (this: unknown, key: string, value: unknown, context?: { source?: string }) => unknown;

const json = JSON as unknown as {
  parse(text: string, reviver?: Reviver): unknown;
  /** Browsers of 2024 and older do not have it. There, long numbers are rounded. */
  rawJSON?(text: string): unknown;
};

/** How deep the text is indented. Without a bound, `[[[[…` would take the square of its length. */
const DEEPEST = 30;

const TOKENS = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/gs;

/** Parses JSON; a number that a double cannot hold becomes an object that `JSON.stringify` writes as it was. */
export function parse<T>(text: string): T {
  const raw = json.rawJSON?.bind(JSON);
  if (!raw) return JSON.parse(text) as T;
  return json.parse(text, (_, value, context) => {
    const source = context?.source;
    return typeof value === 'number' && source !== undefined && loses(value, source) ? raw(source) : value;
  }) as T;
}

function loses(value: number, source: string): boolean {
  const digits = source.replace(/e.*$/i, '').replace(/[-+.]/g, '').replace(/^0+|0+$/g, '');
  return digits.length > 15 && String(value) !== source;
}

export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Lays JSON out in lines. Every token stays as it is; text that is not JSON is returned unchanged. */
export function indent(text: string): string {
  if (!isJson(text)) return text;
  const tokens = text.match(TOKENS) ?? [];
  let out = '';
  let depth = 0;
  const line = () => '\n' + '  '.repeat(Math.min(depth, DEEPEST));
  tokens.forEach((token, at) => {
    if (token === '{' || token === '[') {
      out += token;
      depth += 1;
      const next = tokens[at + 1];
      if (next !== '}' && next !== ']') out += line();
    } else if (token === '}' || token === ']') {
      depth -= 1;
      const before = tokens[at - 1];
      out += (before === '{' || before === '[' ? '' : line()) + token;
    } else if (token === ',') {
      out += token + line();
    } else {
      out += token === ':' ? ': ' : token;
    }
  });
  return out;
}

/** Writes a value in lines. */
export function pretty(value: unknown): string {
  return indent(compact(value));
}

/** Writes a value in one line. */
export function compact(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null';
  } catch {
    return '(nested too deeply to be shown)';
  }
}

/** Returns the value if writing it again gives the same JSON, so that nothing in it is lost. */
export function held(text: string): { value: unknown } | null {
  if (!isJson(text)) return null;
  try {
    const value = parse<unknown>(text);
    return indent(JSON.stringify(value)) === indent(text) ? { value } : null;
  } catch {
    return null;
  }
}
