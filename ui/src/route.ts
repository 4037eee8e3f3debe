// The view is in the hash of the address, so the page works behind any path prefix.

import { signal } from '@preact/signals';

export type View = 'overview' | 'module' | 'dead-letters' | 'tap' | 'try' | 'arrivals' | 'unknown';

export interface Route {
  view: View;
  /** The module of the view `module`. */
  name: string;
  query: URLSearchParams;
}

export function parseHash(hash: string): Route {
  const text = hash.replace(/^#?\/?/, '');
  const mark = text.indexOf('?');
  const path = mark < 0 ? text : text.slice(0, mark);
  const query = new URLSearchParams(mark < 0 ? '' : text.slice(mark + 1));
  const slash = path.indexOf('/');
  const head = slash < 0 ? path : path.slice(0, slash);
  const rest = slash < 0 ? '' : path.slice(slash + 1);
  const name = decoded(rest);
  if (head === 'modules' && name) return { view: 'module', name, query };
  if (rest === '') {
    if (head === '') return { view: 'overview', name: '', query };
    if (head === 'dead-letters' || head === 'tap' || head === 'try' || head === 'arrivals') return { view: head, name: '', query };
  }
  return { view: 'unknown', name: '', query };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function hash(path: string, parts: Record<string, string> = {}): string {
  const query = new URLSearchParams(parts).toString();
  return `#/${path}${query ? `?${query}` : ''}`;
}

/** All links of the page. */
export const to = {
  overview: () => hash(''),
  module: (name: string) => hash(`modules/${encodeURIComponent(name)}`),
  deadLetters: (filter?: Record<string, string>) => hash('dead-letters', filter),
  tap: (module?: string) => hash('tap', module ? { module } : {}),
  try: (module?: string) => hash('try', module ? { module } : {}),
  arrivals: () => hash('arrivals'),
  /** For an address that one of the others has written. */
  same: (address: string) => (address.startsWith('#/') ? address : '#/'),
};

/** Takes a token out of an address, such as the one that `slipring up` opens. */
export function withoutToken(address: string): { token: string | null; address: string } {
  const [path, query = ''] = address.split(/\?(.*)/s);
  const parts = new URLSearchParams(query);
  const token = parts.get('token');
  if (token === null) return { token, address };
  parts.delete('token');
  const rest = parts.toString();
  return { token, address: path + (rest ? `?${rest}` : '') };
}

export const route = signal<Route>(parseHash(typeof location === 'undefined' ? '' : location.hash));

/** Follows the address. `moved` is called after it has changed. `given` gets a token in it, which leaves the address at once. */
export function follow(moved: () => void, given: (token: string) => void): void {
  const take = () => {
    const { token, address } = withoutToken(location.hash);
    if (token === null) return;
    history.replaceState(null, '', address);
    given(token);
  };
  take();
  route.value = parseHash(location.hash);
  addEventListener('hashchange', () => {
    take();
    route.value = parseHash(location.hash);
    moved();
  });
}

export function go(address: string): void {
  location.hash = address;
}
