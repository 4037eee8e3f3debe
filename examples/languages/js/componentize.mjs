// Makes a component for the world of transform.wit out of a JavaScript module: node componentize.mjs orders.js orders.wasm
//
// componentize-qjs 0.4.5 exports a function of its own named `init`, which has done its work when the component is written,
// and cannot build a world that has one, too. So the world that it gets has `boot` instead, and afterwards the names are changed.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { componentize } from "componentize-qjs";

const [script, output] = process.argv.slice(2);
const directory = await mkdtemp(join(tmpdir(), "slipring-"));
try {
  const witPath = join(directory, "transform.wit");
  await writeFile(witPath, (await readFile("transform.wit", "utf8")).replace("export init:", "export boot:"));
  const { component } = await componentize({
    witPath,
    world: "transform",
    jsSource: `${await readFile(script, "utf8")}\nexport { init as boot };\n`,
    jsPath: script,
    moduleRoot: ".",
    // The relay calls a module and waits for what it returns.
    sync: true,
  });
  swapExports(component, "init", "boot");
  await writeFile(output, component);
} finally {
  await rm(directory, { recursive: true });
}

/** Swaps two exported names of the same length: those in sections of the outermost component, not of what it is made of. */
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

/** An unsigned LEB128, and where it ends. */
function number(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return [at, value];
  }
}
