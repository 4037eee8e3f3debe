// Builds a component for the world of transform.wit from a JavaScript module:
//
//     node componentize.mjs orders.js orders.wasm
//
// componentize-qjs 0.4.5 exports its own function named `init`, which is no longer needed once the component is
// written. So it cannot build a world that has an `init` too. This script gives it a world with `boot` instead, and
// swaps the names afterwards.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, posix } from "node:path";

import { componentize } from "componentize-qjs";

const [script, output] = process.argv.slice(2);
const directory = await mkdtemp(join(tmpdir(), "slipring-"));
try {
  const witPath = join(directory, "transform.wit");
  await writeFile(witPath, (await readFile("transform.wit", "utf8")).replace("export init:", "export boot:"));
  const { component } = await componentize({
    witPath,
    world: "transform",
    jsSource: entry(`./${posix.normalize(script)}`),
    // Must be a file, but its text is not read.
    jsPath: "componentize.mjs",
    moduleRoot: ".",
    // The relay calls a module and waits for the result.
    sync: true,
  });
  swapExports(component, "init", "boot");
  await writeFile(output, component);
} catch (error) {
  console.error(told(error));
  process.exitCode = 1;
} finally {
  await rm(directory, { recursive: true });
}

/** The code that the relay calls. QuickJS passes on only the text of an exception, so this code adds the place. */
function entry(script) {
  return `
import { init, transform as inner } from ${JSON.stringify(script)};

for (const [name, value] of Object.entries({ init, transform: inner })) {
  if (typeof value !== "function") throw new Error("'" + name + "' is not a function");
}

export function boot(settings) {
  told(() => init(settings));
}

export function transform(message) {
  return told(() => {
    const publications = inner(message);
    if (typeof publications?.then === "function") throw "transform returned a promise, and nothing waits for it";
    if (!Array.isArray(publications)) throw "transform returned " + shown(publications) + ", and not a list of publications";
    return publications;
  });
}

function told(call) {
  try {
    return call();
  } catch (thrown) {
    throw reason(thrown);
  }
}

${reason}

${place}

${shown}
`;
}

/** A thrown string is the reason, unchanged. */
function reason(thrown) {
  if (typeof thrown === "string") return thrown;
  if (typeof thrown?.message !== "string") return `threw ${shown(thrown)}`;
  const { name, message } = thrown;
  const text = !message ? `${name}` : name && name !== "Error" ? `${name}: ${message}` : message;
  // A reason that is too long would lose its end, which has the place.
  const short = text.length > 500 ? `${text.slice(0, 500)}…` : text;
  const found = place(thrown);
  return found ? `${short} (${found})` : text;
}

/**
 * Returns the innermost line of the module's own code. It skips the engine, Slipring's own files, packages, and the
 * constructor of an error.
 */
function place({ stack, constructor }) {
  for (const line of `${stack}`.split("\n")) {
    const [, where, file, number] = /^\s*at (?:(.*) \()?\/(.*?):(\d+)(?::\d+)?\)?$/.exec(line) ?? [];
    if (!file || /^slipring\.js$|^componentize\.mjs$|(^|\/)node_modules\//.test(file)) continue;
    if (where !== constructor?.name) return `${file}:${number}`;
  }
}

function shown(value) {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return typeof value;
  }
}

/** Says in one line why a module cannot be built, and where. The engine puts its own steps before that. */
function told(error) {
  const said = `${error?.message ?? error}`.replace(/^[:\s]*(Failed to [\w ]+: )*(Error: )?/, "");
  const text = said.split("\n")[0];
  const [, missing] = /^Could not find export '(.*?)'|^'(.*?)' is not a function/.exec(text)?.filter(Boolean) ?? [];
  if (missing) return `${script} needs \`export function ${missing}\`: ${text}`;
  const found = place({ stack: said });
  return `${script} does not build: ${text}${found ? ` (${found})` : ""}`;
}

/** Swaps two exported names of the same length, in the outermost component only, not in the components inside it. */
function swapExports(component, one, other) {
  const EXPORTS = 11;
  for (let at = 8; at < component.length; ) {
    const id = component[at];
    const [start, length] = number(component, at + 1);
    at = start + length;
    if (id !== EXPORTS) continue;
    const section = component.subarray(start, at);
    const [first, second] = [section.indexOf(one), section.indexOf(other)];
    if (first >= 0) section.write(other, first);
    if (second >= 0) section.write(one, second);
  }
}

/** Returns an unsigned LEB128 number and the position after it. */
function number(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return [at, value];
  }
}
