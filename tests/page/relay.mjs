// The relay as a program sees it, to compare with what the page shows.

import assert from "node:assert/strict";

import { within } from "./browser.mjs";
import { ask } from "./control.mjs";
import { url } from "./environment.mjs";

/** A module that is swapped when nothing else happens needs less. */
const SOON = 20_000;

export async function moduleStatus(name = "unruly") {
  const response = await fetch(`${url}/api/v1/status`);
  const { modules } = await response.json();
  return modules.find((module) => module.name === name);
}

/** Returns the name of the version that runs. */
export async function versionInUse() {
  const { sha256, toml_sha256: toml } = await moduleStatus();
  return `${sha256.slice(0, 12)}-${toml.slice(0, 12)}`;
}

/** Loads a new version with these settings. Returns its name once it runs. */
export async function deploy(settings) {
  const before = await versionInUse();
  await ask({ do: "deploy", settings });
  await within(SOON, `the version with ${settings} runs`, async () => (await versionInUse()) !== before);
  return versionInUse();
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
