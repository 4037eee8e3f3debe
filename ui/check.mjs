// Checks that text from modules, messages and servers cannot become markup, and that nothing is inline, which the
// Content-Security-Policy would refuse.

import { readdir, readFile } from 'node:fs/promises';

const forbidden = [
  [/inner\s*HTML|outerHTML|insertAdjacentHTML|createContextualFragment|srcdoc/i, 'markup from text'],
  [/document\s*\.\s*write|DOMParser|setHTML/, 'markup from text'],
  [/\beval\s*\(|new\s+Function\b|javascript:/i, 'code from text'],
  [/href=(?!"#|\{to\.)/, 'a link that is not written by `to`'],
  [/\b(src|action|formaction|xlinkHref)=\{/i, 'an address from data'],
  [/setAttribute\(/, 'an attribute by name'],
  [/https?:\/\//, 'another server'],
];

const problems = [];
const sources = new URL('src/', import.meta.url);
for (const file of await readdir(sources, { recursive: true })) {
  if (!/\.(tsx?|css)$/.test(file)) continue;
  const lines = (await readFile(new URL(file, sources), 'utf8')).split('\n');
  lines.forEach((line, index) => {
    for (const [pattern, what] of forbidden) {
      if (pattern.test(line)) problems.push(`src/${file}:${index + 1}: ${what}: ${line.trim()}`);
    }
  });
}
for (const file of ['index.html', 'dev.html']) {
  const html = await readFile(new URL(file, import.meta.url), 'utf8');
  if (/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/i.test(html)) problems.push(`${file}: something is inline`);
}

for (const problem of problems) console.error(problem);
process.exit(problems.length === 0 ? 0 : 1);
