// The relay as a program sees it, to compare with what the page shows.

import assert from "node:assert/strict";

import { within } from "./browser.mjs";
import { ask } from "./control.mjs";
import { token, url } from "./environment.mjs";

/** A module that is swapped when nothing else happens needs less. */
const SOON = 20_000;

export async function moduleStatus(name = "unruly") {
  const response = await fetch(`${url}/api/v1/status`);
  const { modules } = await response.json();
  return modules.find((module) => module.name === name);
}

/** Returns the name of the version that runs. */
export async function versionInUse(name) {
  const { sha256, toml_sha256: toml } = await moduleStatus(name);
  return `${sha256.slice(0, 12)}-${toml.slice(0, 12)}`;
}

/** Returns the place in the stream of the last message that the module was given. */
export async function lastSequence() {
  const headers = { authorization: `Bearer ${token}` };
  const response = await fetch(`${url}/api/v1/modules/unruly/messages?last=1`, { headers });
  const [{ sequence }] = await response.json();
  return sequence;
}

/** Loads a new version with these settings. Returns its name once it runs. */
export async function deploy(settings) {
  return swapped(`the version with ${settings} runs`, undefined, () => ask({ do: "deploy", settings }));
}

/** Waits until another version of a module runs, and returns its name. */
export async function swapped(what, name, act) {
  const before = await versionInUse(name);
  await act();
  await within(SOON, what, async () => (await versionInUse(name)) !== before);
  return versionInUse(name);
}

/** Waits until somebody who listens has received this on a channel. */
export async function arrives(data, channel = "unruly:ok") {
  const all = [];
  await within(SOON, `${data} arrives on ${channel}`, async () => {
    all.push(...(await ask({ do: "received" })));
    return all.some((received) => received.channel === channel && received.data === data);
  });
  assert.equal(all.filter((received) => received.data === data).length, 1, "it arrives once");
}
