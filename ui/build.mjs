// Writes the page into ../src/admin/page, from where the relay embeds it. The same sources give the same bytes.

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = new URL('.', import.meta.url);
const out = new URL('../src/admin/page/', here);
const embedded = ['preact', '@preact/signals', '@preact/signals-core', 'uplot'];

await mkdir(out, { recursive: true });
await build({
  absWorkingDir: here.pathname,
  entryPoints: { page: 'src/main.tsx' },
  outdir: out.pathname,
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2022',
  charset: 'utf8',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  banner: { js: '// The licenses of the libraries in here are in licenses.txt.' },
});
for (const file of ['index.html', 'icon.svg']) {
  await copyFile(new URL(file, here), new URL(file, out));
}

let licenses = 'The page contains these libraries.\n';
for (const name of embedded) {
  const text = await readFile(new URL(`node_modules/${name}/LICENSE`, here), 'utf8');
  licenses += `\n## ${name}\n\n${text.replaceAll('\r\n', '\n').trim()}\n`;
}
await writeFile(new URL('licenses.txt', out), licenses);

let total = 0;
for (const file of ['index.html', 'page.js', 'page.css', 'icon.svg', 'licenses.txt']) {
  const size = gzipSync(await readFile(new URL(file, out)), { level: 9 }).length;
  total += size;
  console.log(`${file.padEnd(12)} ${(size / 1024).toFixed(1).padStart(6)} KiB with gzip`);
}
console.log(`${'all'.padEnd(12)} ${(total / 1024).toFixed(1).padStart(6)} KiB with gzip`);
if (total > 60_000) {
  console.error('The page may have 60 KB at most.');
  process.exit(1);
}
