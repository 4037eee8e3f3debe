// Which lines of two texts differ.

export interface Pair {
  left: string | null;
  right: string | null;
  same: boolean;
}

/** Longer texts would take too much time: the table has a cell for each pair of lines. */
export const MOST_LINES = 400;

/** Aligns the lines of two texts, by their longest common subsequence. */
export function align(one: string, other: string): { pairs: Pair[]; cut: boolean } {
  const [allLeft, allRight] = [one.split('\n'), other.split('\n')];
  const left = allLeft.slice(0, MOST_LINES);
  const right = allRight.slice(0, MOST_LINES);
  const cut = allLeft.length > MOST_LINES || allRight.length > MOST_LINES;
  const width = right.length + 1;
  const lengths = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] =
        left[i] === right[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const pairs: Pair[] = [];
  let removed: string[] = [];
  let added: string[] = [];
  const flush = () => {
    for (let index = 0; index < Math.max(removed.length, added.length); index += 1) {
      pairs.push({ left: removed[index] ?? null, right: added[index] ?? null, same: false });
    }
    removed = [];
    added = [];
  };
  let [i, j] = [0, 0];
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      flush();
      pairs.push({ left: left[i], right: right[j], same: true });
      i += 1;
      j += 1;
    } else if (j >= right.length || (i < left.length && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      removed.push(left[i]);
      i += 1;
    } else {
      added.push(right[j]);
      j += 1;
    }
  }
  flush();
  return { pairs, cut };
}
