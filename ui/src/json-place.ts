// Where JSON is wrong. Browsers say it each in another way, or not at all.

const SPACE = /[ \t\r\n]*/y;
const SCALAR =
  /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null)(?![\w.])/y;
const KEY = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

/** Returns a sentence with the line of the first mistake, or null if the text is JSON. */
export function mistake(text: string): string | null {
  const at = offset(text);
  if (at === null) return null;
  const before = text.slice(0, at).split('\n');
  const place = `line ${before.length}, column ${before[before.length - 1].length + 1}`;
  if (at >= text.length) return `This is not JSON: it ends too early, in ${place}.`;
  const found = [...text.slice(at, at + 2)][0];
  return `This is not JSON: ${JSON.stringify(found)} is wrong in ${place}.`;
}

/** Returns the place of the first mistake. */
function offset(text: string): number | null {
  let at = 0;
  const open: string[] = [];
  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at = pattern.lastIndex;
    return match !== null;
  };
  const key = (): boolean => {
    skip(SPACE);
    if (!skip(KEY)) return false;
    skip(SPACE);
    if (text[at] !== ':') return false;
    at += 1;
    return true;
  };
  for (;;) {
    // A value begins here.
    skip(SPACE);
    const first = text[at];
    if (first === '{' || first === '[') {
      at += 1;
      skip(SPACE);
      const close = first === '{' ? '}' : ']';
      if (text[at] !== close) {
        open.push(close);
        if (first === '{' && !key()) return at;
        continue;
      }
      at += 1;
    } else if (!skip(SCALAR)) {
      return at;
    }
    // A value has ended here.
    for (;;) {
      skip(SPACE);
      if (open.length === 0) return at === text.length ? null : at;
      if (text[at] !== open[open.length - 1]) break;
      at += 1;
      open.pop();
    }
    if (text[at] !== ',') return at;
    at += 1;
    if (open[open.length - 1] === '}' && !key()) return at;
  }
}
