// Bundles each src/*.test.ts, because Node 20 reads no TypeScript, and runs them.

import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';

const here = new URL('.', import.meta.url).pathname;
const tests = (await readdir(join(here, 'src'))).filter((file) => file.endsWith('.test.ts'));
const outdir = await mkdtemp(join(tmpdir(), 'slipring-page-'));
try {
  await build({
    absWorkingDir: here,
    entryPoints: tests.map((file) => join('src', file)),
    outdir,
    bundle: true,
    platform: 'node',
    format: 'esm',
    outExtension: { '.js': '.mjs' },
  });
  const files = tests.map((file) => join(outdir, file.replace(/\.ts$/, '.mjs')));
  process.exitCode = spawnSync(process.execPath, ['--test', ...files], { stdio: 'inherit' }).status ?? 1;
} finally {
  await rm(outdir, { recursive: true });
}
