// For development of the page only: serves the built page with a made-up relay. Nothing here is real.
//
// PORT, MODULES, LETTERS, RATE (samples a second) and TOKEN (wanted for payloads and commands; with READ=1 for all)
// change what it does. GET /dev/silent?seconds=5 makes it silent, /dev/outage toggles an outage of Centrifugo,
// /dev/restart?to=N starts again with N modules.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';

const env = (name, usual) => Number(process.env[name] ?? usual);
const port = env('PORT', 8099);
const every = 1000 / env('RATE', 1);
const token = process.env.TOKEN ?? '';
const page = new URL('../src/admin/page/', import.meta.url);
const types = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', txt: 'text/plain' };
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'";

const EVIL = '<img src=x onerror=alert(1)>';
const now = () => Date.now() / 1000;
const iso = (seconds) => new Date(seconds * 1000).toISOString();
const hex = (seed, length) => {
  let text = '';
  for (let n = seed * 7919 + 17; text.length < length; n = (n * 1103515245 + 12345) % 2147483648) text += n.toString(16).padStart(8, '0');
  return text.slice(0, length);
};
const started = now() - 4 * 3600;
let silentUntil = 0;
let outage = false;
let marks = [];
let modules = [];
let letters = [];
let serial = 0;

function begin(size) {
  const kinds = ['orders', 'payments', 'chat', 'presence', 'stock', 'quotes', 'audit', 'mail'];
  modules = Array.from({ length: size }, (_, index) => {
    const name = index === 3 ? EVIL : index === 5 ? 'shop & co?#%' : `${kinds[index % kinds.length]}${index < 8 ? '' : `-${index}`}`;
    const state = index === 7 ? 'halted' : index === 11 ? 'standby' : index === 13 ? 'failed' : index === 17 ? 'waiting' : 'running';
    const versions = Array.from({ length: 4 }, (_, age) => ({
      sha256: hex(index * 10 + age, 64),
      toml_sha256: hex(index * 10 + age + 500, 64),
      since: iso(now() - 600 - age * 90_000),
      running: age === 0,
      probe: age === 3 ? null : `tried on the last ${256 - age} messages`,
      trial: ['running', 'passed', 'passed', null][age],
    })).map((version) => ({ version: `${version.sha256.slice(0, 12)}-${version.toml_sha256.slice(0, 12)}`, ...version }));
    const base = 5 + ((index * 37) % 400) * (index % 9 === 0 ? 10 : 1);
    return { name, state, versions, base, total: base * 10_000, rejected: index * 13, swaps: 1, rollbacks: 0, refusal: null, back: null };
  });
}

const reasons = [
  'the payload is not the JSON that was expected: id: invalid type: string "8", expected u64 at line 1 column 9',
  `the module says: ${EVIL}`,
  'Centrifugo refused the publication: 107 bad request',
  'the module used more than 10 ms',
];

function dead(count) {
  letters = Array.from({ length: count }, (_, index) => {
    const number = count - index;
    const kind = number % 10 < 7 ? 0 : number % 10 === 7 ? 1 : number % 10 === 8 ? 2 : 3;
    const module = modules[[0, 3, 1, 2][kind] % modules.length].name;
    return {
      number,
      stored: iso(now() - index * 11),
      module,
      stage: kind === 2 ? 'publish' : 'transform',
      code: ['rejected', 'rejected', 'bad-request', 'timeout'][kind],
      reason: reasons[kind],
      channel: kind === 2 ? `news:${EVIL}` : null,
      subject: `orders.${number}`,
      stream: 'ORDERS',
      sequence: kind === 3 ? `1795888251712-${number}` : number * 3,
      size: 64,
      sha256: hex(1, 64),
    };
  });
}

const sampleOf = (module, time, index) => {
  const moving = module.state === 'running' && !outage;
  const wave = 1 + 0.4 * Math.sin(time / 60 + index) + 0.1 * Math.random();
  const received = moving ? module.base * wave : 0;
  const rejected = moving && index % 6 === 0 ? Math.max(0, Math.sin(time / 40)) * 3 : 0;
  const lag = module.state === 'failed' ? null : Math.round((module.state === 'running' ? 3 : 4000) * wave * (outage ? 50 : 1));
  return {
    received,
    published: received - rejected,
    rejected,
    lag_messages: lag,
    lag_seconds: lag === null ? null : lag / (module.base + 1),
    latency_p50_ms: moving ? 0.6 * wave : null,
    latency_p99_ms: moving ? 2.4 * wave + Math.random() : null,
  };
};

function status() {
  const obstacles = modules.flatMap(({ name, state }) =>
    state === 'halted' ? [{ kind: 'halted', module: name, text: `waits at message 4711, which was rejected: ${EVIL}` }] : [],
  );
  if (outage) obstacles.unshift({ kind: 'centrifugo', module: null, text: 'nothing can be published: http://127.0.0.1:8000 refuses the connection' });
  return {
    version: '0.9.0-dev',
    started: iso(started),
    ready: obstacles.length === 0,
    obstacles,
    warnings: modules.filter(({ state }) => state === 'failed').map(({ name }) => ({ kind: 'failed_among_others', module: name, text: 'cannot run: orders.toml, line 3: `stream` is 5; it must be a string that is not empty' })),
    nats: { connected: true, server: '2.15.2', trouble: null },
    centrifugo: { trouble: outage ? 'the connection to http://127.0.0.1:8000 is refused' : null },
    memory: { used: 90e6 + 20e6 * Math.sin(now() / 30), limit: 512 * 1024 * 1024 },
    modules: modules.map((module, index) => {
      const sample = sampleOf(module, now(), index);
      const [version] = module.versions.filter(({ running }) => running);
      const reason = { halted: `message 4711 was rejected: ${EVIL}`, standby: 'the relay on host-b, which has read since 09:12:44, is active', failed: 'its .toml is wrong', waiting: 'the stream CHAT does not exist' };
      return {
        name: module.name, state: module.state, reason: reason[module.state] ?? null,
        sha256: version.sha256, toml_sha256: version.toml_sha256, since: iso(started), running_since: version.since,
        stream: 'ORDERS', consumer: `slipring-${module.name}`, received: Math.round(module.total), transformed: Math.round(module.total),
        dropped: 12, expired: 0, rejected: Math.round(module.rejected), published: Math.round(module.total), conflated: 0, missed: 0, retried: 4,
        predecessor: null, rolled_back: module.back, rollbacks: module.rollbacks, swaps: module.swaps, refused_swaps: 0, last_refusal: module.refusal,
        lag_messages: sample.lag_messages, lag_seconds: sample.lag_seconds,
        backlog: { pending: sample.lag_messages ?? 0, ack_pending: 3, ack_floor: 9, paused: false, stalled_seconds: 0 },
        window_messages: 12, window_bytes: 40_000,
      };
    }),
  };
}

function mark(kind, module, text, time = now()) {
  marks.push({ id: ++serial, time, kind, module, text });
  marks = marks.slice(-200);
}

begin(env('MODULES', 100));
dead(env('LETTERS', 10_000));
mark('swap', modules[0].name, `swapped to ${modules[0].versions[0].version}`, now() - 640);
mark('nats-lost', null, 'the connection to nats://127.0.0.1:4222 is refused', now() - 420);
mark('nats-back', null, 'connected again after 12 s', now() - 408);
mark('rollback', modules[modules.length > 3 ? 3 : 0].name, `rolled back: the trial found ${EVIL}`, now() - 200);
mark('halted', modules[modules.length > 7 ? 7 : 0].name, 'waits at message 4711', now() - 90);

const history = (step, name) => {
  const size = Math.floor(900 / step);
  const last = Math.floor(now() / step);
  const times = Array.from({ length: size }, (_, index) => (last - size + index) * step);
  const chosen = modules.map((module, index) => ({ module, index })).filter(({ module }) => !name || module.name === name);
  return {
    step_seconds: step,
    times,
    modules: chosen.map(({ module, index }) => {
      const samples = times.map((time) => (time < now() - 840 ? null : sampleOf(module, time, index)));
      const columns = Object.keys(sampleOf(module, 0, 0)).map((field) => [field, samples.map((sample) => sample?.[field] ?? null)]);
      return { name: module.name, ...Object.fromEntries(columns) };
    }),
    marks,
  };
};

const messageOf = (number) =>
  number % 5 === 0
    ? { subject: `orders.${number}`, payload: `not JSON: ${EVIL}`, stream: 'ORDERS', sequence: number }
    : { subject: `orders.${number}`, headers: { 'Nats-Msg-Id': [`m-${number}`] }, data: { id: number, big: 'BIG', note: EVIL, lines: [1, 2, 3] }, stream: 'ORDERS', sequence: number, timestamp: iso(now()) };
// A number that JavaScript would round.
const exact = (value) => JSON.stringify(value).replaceAll('"BIG"', '12345678901234567890');
const publishing = (version, number, more = {}) => ({
  version, micros: 12 + (number % 9), outcome: 'publish',
  publications: [{ channels: [`orders:${number}`, `user:${EVIL}`], data: { id: number, big: 'BIG', note: EVIL, ...more } }],
});
const outcomeOf = (version, number) =>
  number % 7 === 0
    ? { version, micros: 9, outcome: 'reject', code: 'rejected', reason: `no: ${EVIL}` }
    : number % 7 === 1 ? { version, micros: 8, outcome: 'drop' } : publishing(version, number);

const matches = (letter, filter) =>
  filter.all || (filter.numbers ? filter.numbers.includes(letter.number) : ['module', 'stage', 'code', 'reason'].every((key) => !filter[key] || letter[key] === filter[key]));

function deadLetters(query) {
  const filter = Object.fromEntries(query);
  const chosen = letters.filter((letter) => matches(letter, { ...filter, all: undefined }));
  const groups = new Map();
  for (const letter of chosen) {
    const key = [letter.module, letter.stage, letter.code, letter.reason].join('\n');
    const group = groups.get(key) ?? { module: letter.module, stage: letter.stage, code: letter.code, reason: letter.reason, count: 0, first: letter.stored, last: letter.stored };
    group.count += 1;
    group.first = letter.stored;
    groups.set(key, group);
  }
  const after = Number(query.get('after') ?? Infinity);
  const limit = Number(query.get('limit') ?? 50);
  const rest = chosen.filter(({ number }) => number < after);
  const listed = rest.slice(0, limit);
  return {
    total: chosen.length,
    groups: [...groups.values()].sort((a, b) => b.count - a.count).slice(0, 100),
    letters: listed,
    ungrouped: 0,
    next: rest.length > limit ? listed[limit - 1].number : null,
  };
}

function send(response, status, body, type = 'application/json') {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store', 'content-security-policy': CSP, 'x-content-type-options': 'nosniff' });
  response.end(typeof body === 'string' ? body : exact(body));
}

function events(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  return (name, data) => {
    if (now() > silentUntil && response.writableLength < 1 << 20) response.write(`event: ${name}\ndata: ${exact(data)}\n\n`);
  };
}

const body = async (request) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
};

async function api(request, response, path, query, selection) {
  const full = request.method === 'POST' || /dead-letters|tap|diff|messages$/.test(path);
  if (token && (full || process.env.READ) && request.headers.authorization !== `Bearer ${token}`) {
    const found = request.headers.authorization ? 'has a wrong token' : 'is missing';
    return send(response, 401, `The header \`Authorization: Bearer TOKEN\` ${found}; send the token from the file that \`admin.token_file\` names.\n`, 'text/plain');
  }
  if (request.method === 'POST' && request.headers['slipring-command'] !== '1') return send(response, 403, 'The header `slipring-command: 1` is missing.\n', 'text/plain');
  const [head, rawName, verb] = path.split('/');
  if (path === 'status') return send(response, 200, status());
  if (path === 'arrivals') return send(response, 200, { websocket: null });
  if (path === 'history') return send(response, 200, history(Number(query.get('step') ?? 5), query.get('module')));
  if (path === 'events') {
    const emit = events(response);
    let seen = serial;
    const tell = () => {
      const time = now();
      emit('sample', { time, status: status(), samples: Object.fromEntries(modules.map((module, index) => [module.name, sampleOf(module, time, index)])), marks: marks.filter(({ id }) => id > seen) });
      seen = serial;
    };
    tell();
    const timer = setInterval(tell, every);
    return response.on('close', () => clearInterval(timer));
  }
  if (path === 'tap') {
    const emit = events(response);
    let number = 0;
    const timer = setInterval(() => {
      number += 1;
      const index = number % modules.length;
      const only = query.get('module');
      const module = only ? modules.find(({ name }) => name === only) ?? modules[0] : modules[index];
      const message = messageOf(number);
      emit('message', { time: now(), module: module.name, subject: message.subject, stream: 'ORDERS', sequence: number, timestamp: iso(now()), headers: message.headers ?? {}, payload: message.payload ?? exact(message.data), payload_base64: null, size: 80, truncated: number % 11 === 0, skipped: number % 4 === 0 ? 40 : 0, ...outcomeOf(module.versions[0].version, number) });
    }, 1000 / Number(query.get('rate') ?? 10));
    return response.on('close', () => clearInterval(timer));
  }
  if (path === 'dead-letters') return send(response, 200, deadLetters(query));
  if (head === 'dead-letters' && request.method === 'POST') {
    const chosen = letters.filter((letter) => matches(letter, selection));
    const emit = events(response);
    const failures = rawName === 'replay' ? chosen.filter(({ number }) => number % 50 === 9).map(({ number }) => ({ number, reason: `rejected again: ${EVIL}` })) : [];
    const steps = Math.min(20, Math.max(1, chosen.length / 10));
    for (let step = 1; step <= steps; step += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      emit('progress', { done: Math.round((chosen.length * step) / steps), of: chosen.length, failed: Math.round((failures.length * step) / steps), paused: step === 5 ? 'Centrifugo answers with 503' : null });
    }
    const kept = new Set(failures.map(({ number }) => number));
    letters = letters.filter((letter) => !chosen.includes(letter) || kept.has(letter.number));
    emit('end', { ok: failures.length === 0, text: rawName === 'replay' ? `replayed ${chosen.length - kept.size} dead letters; ${kept.size} were refused again` : `removed ${chosen.length} dead letters`, failures: failures.slice(0, 100) });
    return response.end();
  }
  if (head === 'dead-letters') {
    const letter = letters.find(({ number }) => number === Number(rawName));
    if (!letter) return send(response, 404, `There is no dead letter ${rawName}.\n`, 'text/plain');
    const { number } = letter;
    return send(response, 200, { ...letter, headers: [['Nats-Msg-Id', `m-${number}`], ['X-Note', EVIL]], payload: number % 4 === 0 ? null : exact({ id: String(number), big: 'BIG', note: EVIL }), payload_base64: number % 4 === 0 ? 'AAECAwQ=' : null, truncated: false, now: number % 3 === 0 ? null : outcomeOf(modules[0].versions[0].version, number), problem: number % 3 === 0 ? 'The module does not run now.' : null });
  }
  const module = modules.find(({ name }) => name === decodeURIComponent(rawName ?? ''));
  if (head !== 'modules' || !module) return send(response, 404, `There is no such path: ${path}\n`, 'text/plain');
  const find = (prefix) => module.versions.find(({ version }) => version.startsWith(prefix));
  if (verb === 'versions') return send(response, 200, { module: module.name, versions: module.versions, rolled_back: module.back, last_refusal: module.refusal });
  if (verb === 'messages') return send(response, 200, Array.from({ length: Number(query.get('last') ?? 20) }, (_, index) => messageOf(900 - index)));
  if (verb === 'diff') {
    const [from, to] = [query.get('from'), query.get('to')];
    const different = Array.from({ length: 6 }, (_, index) => ({ message: messageOf(700 + index), from: publishing(from, 700 + index, { status: 'paid' }), to: index === 2 ? outcomeOf(to, 7) : publishing(to, 700 + index, { state: 'paid', by: EVIL }) }));
    return send(response, 200, { module: module.name, from, to, messages: 256, same: 250, different });
  }
  if (verb === 'try') {
    const subject = String(selection.message?.subject ?? '');
    return send(response, 200, outcomeOf(selection.version ?? module.versions[0].version, Number(/\d+$/.exec(subject)?.[0] ?? 3)));
  }
  if (verb === 'retry') return send(response, 200, `loaded the files of ${module.name} again\n`, 'text/plain');
  if (verb === 'rollback') {
    const target = find(query.get('version') ?? module.versions[1].version);
    if (!target) return send(response, 409, 'There is no such version.\n', 'text/plain');
    const [before] = module.versions.filter(({ running }) => running);
    for (const version of module.versions) version.running = version === target;
    module.rollbacks += 1;
    module.back = { sha256: before.sha256, toml_sha256: before.toml_sha256, at: iso(now()), reason: 'Somebody asked for it.' };
    mark('rollback', module.name, `rolled back from ${before.version} to ${target.version}`);
    return send(response, 200, `rolled \`${module.name}\` back from ${before.version} to ${target.version}\n`, 'text/plain');
  }
  return send(response, 404, 'There is no such path.\n', 'text/plain');
}

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://x');
  // As behind a proxy that serves the relay below a prefix.
  const path = url.pathname.replace(/^\/slipring\//, '/').slice(1);
  try {
    if (path === '' || path.startsWith('page/')) {
      const file = path === '' ? 'index.html' : path.slice(5);
      return send(response, 200, await readFile(new URL(file, page), 'utf8'), types[file.split('.').pop()]);
    }
    if (path === 'dev/silent') silentUntil = now() + Number(url.searchParams.get('seconds') ?? 5);
    if (path === 'dev/outage') {
      outage = !outage;
      mark(outage ? 'centrifugo-lost' : 'centrifugo-back', null, outage ? 'the connection to http://127.0.0.1:8000 is refused' : 'publishing again');
    }
    if (path === 'dev/restart') begin(Number(url.searchParams.get('to') ?? 100));
    if (path.startsWith('dev/')) return send(response, 200, 'done\n', 'text/plain');
    if (!path.startsWith('api/v1/')) return send(response, 404, 'There is no such path.\n', 'text/plain');
    const selection = request.method === 'POST' ? await body(request) : {};
    await api(request, response, path.slice(7), url.searchParams, selection);
  } catch (error) {
    if (!response.headersSent) send(response, error.code === 'ENOENT' ? 404 : 500, `${error.message}\n`, 'text/plain');
  }
}).listen(port, '127.0.0.1', () => console.log(`a made-up relay, for work on the page only: http://127.0.0.1:${port}/`));

setInterval(() => {
  for (const module of modules) {
    if (module.state === 'running' && !outage) module.total += module.base;
    module.rejected += 0.2;
  }
}, 1000);
