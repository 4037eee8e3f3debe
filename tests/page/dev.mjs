// What an author sees and does on the page of `slipring dev --web`. The module is tests/guests/unruly: it does what the
// last part of a message's subject says, or what `settings.wish` says.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, obstaclesFor, quit, tabTo, visit } from "./browser.mjs";
import { needed, token } from "./environment.mjs";

const folder = needed("PAGE_FOLDER");

/** Markup in a text. */
const MARKUP = '<img src=x onerror="window.pwned=1">';

const PATH = `#/?token=${token}`;

const save = (name, text) => writeFile(join(folder, name), text);
const settings = (wish) => save("shop.toml", `stream = "SHOP"\n${wish ? `settings.wish = "${wish}"\n` : ""}`);

const entry = (page, name) => page.getByRole("region", { name: "Cases and messages" }).getByRole("button", { name });
const outcome = (page) => page.getByRole("region", { name: "Outcome" });
const message = (page) => page.getByLabel("Message as JSON");

before(launch);
after(quit);

test("a save shows by itself, with what differs", async (context) => {
  await visit(context.name, { path: PATH, signedIn: false }, async (page) => {
    await entry(page, /^ok passed/).waitFor();
    assert.ok(!page.url().includes(token), "the token leaves the address");
    assert.match(await message(page).inputValue(), /"unruly\.ok"/);
    await outcome(page).getByText("unruly:ok").waitFor();

    await settings("drop");
    await entry(page, /^ok failed/).waitFor();
    const difference = outcome(page).getByRole("group", { name: "Difference: - expected, + actual" });
    await difference.getByText('+   "outcome": "drop"').waitFor();
    await settings("");
    await entry(page, /^ok passed/).waitFor();

    await page.reload();
    await entry(page, /^ok passed/).waitFor();
  });
});

test("a build that fails is shown with the compiler's text, and the old module stays", async (context) => {
  await visit(context.name, { path: PATH, signedIn: false }, async (page) => {
    await entry(page, /^ok passed/).waitFor();
    await save("source", `broken: ${MARKUP}\n`);
    await page.getByRole("heading", { name: /^The build failed at .*: the module (built|loaded) at .* stays in use$/ }).waitFor();
    await page.getByRole("group", { name: "What the compiler printed" }).getByText(MARKUP).waitFor();
    assert.deepEqual(await obstaclesFor(page), []);
    await save("source", "fine\n");
    await page.getByRole("heading", { name: /^The build failed/ }).waitFor({ state: "detached" });
  });
});

test("a message is pasted, run with the keyboard, and saved as a case", async (context) => {
  await visit(context.name, { path: PATH, signedIn: false, theme: "dark" }, async (page) => {
    await entry(page, /^ok passed/).waitFor();
    await tabTo(page, "the message", (_, kind) => kind === "TEXTAREA");
    await message(page).fill("{");
    await page.keyboard.press("Control+Enter");
    await page.getByRole("region", { name: "Message" }).locator(".tone-bad").waitFor();

    const text = { subject: "unruly.ok", data: { id: 12345678, name: MARKUP } };
    await message(page).fill(JSON.stringify(text));
    await page.keyboard.press("Control+Enter");
    await entry(page, /^edited 1 /).waitFor();
    // JSON, in which quotes are escaped.
    await outcome(page).getByText(JSON.stringify(MARKUP)).waitFor();
    assert.match(await message(page).inputValue(), /12345678/);

    await page.getByRole("button", { name: "Save as a case…" }).click();
    await page.getByLabel("Name").fill("saved");
    await page.keyboard.press("Enter");
    await entry(page, /^saved passed/).waitFor();
    assert.match(await readFile(join(folder, "cases/saved.json"), "utf8"), /12345678/);

    await settings("drop");
    await entry(page, /^saved failed/).click();
    await page.getByRole("button", { name: "Let the case expect this outcome" }).click();
    await entry(page, /^saved passed/).waitFor();
    assert.match(await readFile(join(folder, "cases/saved.json"), "utf8"), /"drop"/);
    await settings("");
    await entry(page, /^ok passed/).waitFor();
    assert.deepEqual(await obstaclesFor(page), []);
  });
});

test("a narrow window shows everything, one below the other", async (context) => {
  await visit(context.name, { path: PATH, signedIn: false, width: 360, height: 700 }, async (page) => {
    await entry(page, /^ok passed/).waitFor();
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `it is ${overflow} pixels too wide`);
  });
});

test("a wrong token is said to be wrong", async (context) => {
  await visit(context.name, { path: "#/?token=wrong", signedIn: false }, async (page, expect) => {
    expect(/401/);
    await page.getByRole("alert").getByText("The token in the address is missing or wrong.").waitFor();
  });
});
