// A browser whose pages are watched: anything that they complain about fails the check, unless it is expected.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";

import axe from "axe-core";
import { chromium } from "playwright-core";

import { needed, token, url } from "./environment.mjs";

/** Where a page that fails is saved, for whoever looks for the cause. */
const FAILED = new URL("../../target/page/", import.meta.url);

/** How long a check waits for anything that should happen soon, in milliseconds. */
const PATIENCE = 20_000;

let browser;

export async function launch() {
  browser = await chromium.launch({ executablePath: needed("PAGE_BROWSER") });
}

export async function quit() {
  await browser?.close();
}

/**
 * Opens the page in a context of its own, and calls `act` with it. Afterwards, the page must not have complained, and must
 * have run or shown nothing that came in as text.
 */
export async function visit(name, options, act) {
  const { path = "#/", signedIn = true, theme = "light", motion = "no-preference", width = 1280, height = 800, base = url } = options;
  const context = await browser.newContext({
    colorScheme: theme,
    reducedMotion: motion,
    viewport: { width, height },
    locale: "en-GB",
    timezoneId: "UTC",
  });
  context.setDefaultTimeout(PATIENCE);
  // The page keeps it there once it was entered, which a check of its own does.
  if (signedIn) await context.addInitScript((token) => sessionStorage.setItem("slipring-token", token), token);
  const page = await context.newPage();
  const complaints = complaintsOf(page);
  const expected = [];
  try {
    await page.goto(`${base}/${path}`);
    await act(page, (pattern) => expected.push(pattern), context);
    await ranNoText(page);
    const others = complaints.filter((complaint) => !expected.some((pattern) => pattern.test(complaint)));
    assert.deepEqual(others, [], "the page complained");
  } catch (error) {
    await keep(page, name, complaints);
    throw error;
  } finally {
    await context.close();
  }
}

function complaintsOf(page) {
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText;
    // The page ends a request when nobody needs its answer any more.
    if (why !== "net::ERR_ABORTED") complaints.push(`request: ${why}: ${request.url()}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) complaints.push(`answer: ${response.status()}: ${response.url()}`);
  });
  return complaints;
}

/** The page has no pictures of its own, so one could only come from a text. */
export async function ranNoText(page) {
  const pictures = await page.locator("img").count();
  const pwned = await page.evaluate(() => String(window.pwned));
  assert.deepEqual({ pictures, pwned }, { pictures: 0, pwned: "undefined" }, "a text became markup");
}

async function keep(page, name, complaints) {
  const file = (extension) => new URL(`${name.replaceAll(/\W+/g, "-")}.${extension}`, FAILED);
  try {
    await mkdir(FAILED, { recursive: true });
    await page.screenshot({ path: file("png").pathname, fullPage: true });
    await writeFile(file("html"), await page.content());
    console.error(`the page is saved in ${file("png").pathname}; its complaints: ${JSON.stringify(complaints)}`);
  } catch (error) {
    console.error(`the page cannot be saved: ${error.message}`);
  }
}

/** Returns what axe-core finds that keeps people from using the page. */
export async function obstaclesFor(page) {
  await page.evaluate(axe.source);
  const violations = await page.evaluate(() => window.axe.run().then((found) => found.violations));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" | ")}`);
}

/** Waits until `condition` returns something true, and returns how many milliseconds that took. */
export async function within(limit, what, condition) {
  const start = performance.now();
  for (;;) {
    const found = await condition();
    const taken = performance.now() - start;
    if (found) return taken;
    if (taken > limit) assert.fail(`after ${limit} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Returns the value beside a name, such as a number in the overview. */
export const fact = (page, name) =>
  page.locator("dt", { hasText: new RegExp(`^${name}$`) }).first().locator("xpath=following-sibling::dd[1]");

/** Returns the row of the table that has this link. */
export const rowOf = (page, link) => page.getByRole("row").filter({ has: page.getByRole("link", { name: link, exact: true }) });

export async function numberIn(locator) {
  const [digits] = (await locator.innerText()).replaceAll(",", "").match(/^[0-9.]+/) ?? [];
  return digits === undefined ? null : Number(digits);
}

/** Returns what has the focus: its name, and the name of its element. */
export function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    return [element.getAttribute("aria-label") ?? element.textContent.trim(), element.tagName];
  });
}

/** Presses Tab until this has the focus. Whatever gets it on the way must show that. */
export async function tabTo(page, what, fits) {
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press("Tab");
    const [text, kind] = await focused(page);
    const ring = await page.evaluate(() => {
      const { outlineStyle, boxShadow } = getComputedStyle(document.activeElement);
      return document.activeElement === document.body || outlineStyle !== "none" || boxShadow !== "none";
    });
    assert.ok(ring, `nobody sees that ${kind} ${text} has the focus`);
    if (fits(text, kind)) return;
  }
  assert.fail(`Tab does not lead to ${what}`);
}
