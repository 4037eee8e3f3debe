// Writes the page into ../src/admin/page, from where the relay embeds it. The same sources give the same bytes.

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = new URL('.', import.meta.url);
const out = new URL('../src/admin/page/', here);
const note = (licenses) => `// The licenses of the libraries in here are in ${licenses}.`;

const common = {
  absWorkingDir: here.pathname,
  outdir: out.pathname,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  metafile: true,
};

/** What the view of arrivals needs and the rest does not. */
const OWN = /^(\.\/arrivals|centrifuge)/;

/** Has the page load the view when it is needed. */
const later = {
  name: 'later',
  setup: (build) => build.onResolve({ filter: OWN }, () => ({ path: './arrivals.js', external: true })),
};

/** Takes everything else from the page. A third file with what both need would cost 2 KB. */
const shared = {
  name: 'shared',
  setup: (build) =>
    build.onResolve({ filter: /./ }, ({ path, kind, importer }) => {
      if (kind === 'entry-point' || OWN.test(path) || importer.includes('node_modules')) return undefined;
      return { path: './page.js', external: true };
    }),
};

await mkdir(out, { recursive: true });
const page = await build({
  ...common,
  entryPoints: { page: 'src/main.tsx' },
  plugins: [later],
  banner: { js: note('licenses.txt') },
});
await build({
  ...common,
  entryPoints: { arrivals: 'src/arrivals.tsx' },
  plugins: [shared],
  banner: { js: note('arrivals-licenses.txt') },
});

await build({
  ...common,
  entryPoints: { dev: 'src/dev.tsx' },
  banner: { js: note('licenses.txt') },
});

const [{ exports }] = Object.values(page.metafile.outputs).filter(({ entryPoint }) => entryPoint === 'src/main.tsx');
const text = await readFile(new URL('arrivals.js', out), 'utf8');
for (const [, list] of text.matchAll(/import\{([^}]*)\}from"\.\/page\.js"/g)) {
  const missing = list.split(',').map((name) => name.split(' as ')[0]).filter((name) => !exports.includes(name));
  if (missing.length > 0) fail(`src/host.ts does not export ${missing.join(', ')}, which arrivals.js needs.`);
}

for (const file of ['index.html', 'dev.html', 'icon.svg']) {
  await copyFile(new URL(file, here), new URL(file, out));
}
await licenses('licenses.txt', 'The page contains these libraries.', ['preact', '@preact/signals', '@preact/signals-core', 'uplot']);
await licenses('arrivals-licenses.txt', 'The view of arrivals contains these libraries.', ['centrifuge', 'events', 'protobufjs']);

await limit('the page', 60_000, ['index.html', 'page.js', 'page.css', 'icon.svg', 'licenses.txt']);
await limit('arrivals', 60_000, ['arrivals.js', 'arrivals-licenses.txt']);
await limit('the page of slipring dev', 30_000, ['dev.html', 'dev.js', 'dev.css']);

async function licenses(file, title, names) {
  let all = `${title}\n`;
  for (const name of names) {
    const text = await readFile(new URL(`node_modules/${name}/LICENSE`, here), 'utf8');
    all += `\n## ${name}\n\n${text.replaceAll('\r\n', '\n').trim()}\n`;
  }
  await writeFile(new URL(file, out), all);
}

async function limit(what, most, files) {
  let total = 0;
  for (const file of files) {
    const size = gzipSync(await readFile(new URL(file, out)), { level: 9 }).length;
    total += size;
    print(file, size);
  }
  print(what, total);
  if (total > most) fail(`More than ${most} bytes.`);
}

function print(what, size) {
  console.log(`${what.padEnd(26)} ${String(size).padStart(6)} bytes with gzip`);
}

function fail(why) {
  console.error(why);
  process.exit(1);
}
