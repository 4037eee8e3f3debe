// What arrives at a subscriber, in the view for that, while one module runs and is swapped. The module is
// tests/guests/unruly: it does what the last part of a message's subject says.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, obstaclesFor, quit, ranNoText, tabTo, visit, within } from "./browser.mjs";
import { ask, end, publish } from "./control.mjs";
import { token, url } from "./environment.mjs";
import { deploy } from "./relay.mjs";

const PATH = "#/arrivals";

/** Markup in a text. */
const MARKUP = '<img src=x onerror="window.pwned=1">';

/** How soon what was published must be seen, in milliseconds. */
const QUICK = 2000;

/** How long the relay and the page may take to find a server that is back, in milliseconds. */
const BACK = 20_000;

/** More channels than these get no card. */
const MOST_CHANNELS = 100;

before(launch);
after(async () => {
  await quit();
  end();
});

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;

const card = (page, channel) => page.getByRole("region", { name: "Channels" }).getByRole("listitem", { name: channel, exact: true });

const feed = (page) => page.getByRole("list", { name: "What arrived, newest first" }).getByRole("listitem");

const connected = (page) => page.getByRole("status").filter({ hasText: /^● Connected to ws:/ }).waitFor();

/** Publishes to a channel, with whatever else the module can set. */
const send = (channel, data, more = {}) =>
  publish({ subject: "unruly.publish", payload: JSON.stringify([{ channels: [channel], data, ...more }]) });

test("a token in the address opens the view, and leaves the address at once", async (context) => {
  await visit(context.name, { path: `${PATH}?token=${encodeURIComponent(token)}`, signedIn: false }, async (page, expect) => {
    // Once the token is forgotten.
    expect(/\b401\b/);
    await connected(page);
    assert.equal(page.url(), `${url}/${PATH}`);
    assert.equal(await page.evaluate(() => sessionStorage.getItem("slipring-token")), token);
    assert.equal(await page.getByRole("dialog").count(), 0);
    await page.getByRole("link", { name: "Overview" }).first().click();
    await page.goBack();
    assert.equal(page.url(), `${url}/${PATH}`, "it is not in the history of the tab either");

    // As when the address is opened where the page is open already.
    await page.getByRole("button", { name: "Forget the token" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await page.evaluate((address) => location.assign(address), `#/tap?module=unruly&token=${encodeURIComponent(token)}`);
    await page.getByRole("heading", { name: "Tap", level: 1 }).waitFor();
    assert.equal(page.url(), `${url}/#/tap?module=unruly`);
    await page.getByRole("button", { name: "Forget the token" }).waitFor();
  });
});

test("an event arrives within 2 s of its publication, and its card changes with the next one", async (context) => {
  await visit(context.name, {}, async (page) => {
    await page.getByRole("link", { name: "Arrivals" }).click();
    await connected(page);
    await page.getByText("Nothing has arrived yet.").waitFor();
    await page.getByText("slipring publish SUBJECT DATA").waitFor();
    const order = card(page, "unruly:order-7");
    const shows = (pattern) => async () => (await order.count()) === 1 && pattern.test(await order.innerText());

    const begin = performance.now();
    await send("unruly:order-7", { status: "paid", total_cents: 999 }, { version: 3 });
    await within(QUICK - (performance.now() - begin), "the first event is shown", shows(/status\s+paid/));
    context.diagnostic(`a new channel: after ${seconds(performance.now() - begin)}`);
    await within(BACK, "who made it", shows(/1 arrival, version 3, by unruly [0-9a-f]{12}/));

    const next = performance.now();
    await send("unruly:order-7", { status: "shipped", total_cents: 999 }, { version: 4, tags: { by: "courier" } });
    await within(QUICK - (performance.now() - next), "the card changes", shows(/status\s+shipped/));
    context.diagnostic(`a known channel: after ${seconds(performance.now() - next)}`);
    await within(BACK, "the rest of it", shows(/total_cents\s+999\s+tag by\s+courier\s+.*2 arrivals, version 4/s));
    const lines = await feed(page).allInnerTexts();
    assert.equal(lines.length, 2, lines.join("\n"));
    assert.match(lines[0], /^\d\d:\d\d:\d\d unruly:order-7 \{"status":"shipped","total_cents":999\} by unruly /);
    assert.doesNotMatch(lines.join(), /history/);
  });
});

test("a swap is a line between what the two versions made, and so is a rollback", async (context) => {
  await deploy('mark = "one"');
  await visit(context.name, { path: PATH }, async (page) => {
    await connected(page);
    await publish({ subject: "unruly.ok", payload: '{"id":1}' });
    await card(page, "unruly:ok").getByText("one", { exact: true }).waitFor();
    const version = await deploy('mark = "two"');
    await publish({ subject: "unruly.ok", payload: '{"id":2}' });
    await card(page, "unruly:ok").getByText("two", { exact: true }).waitFor();
    const modules = page.getByRole("region", { name: "Modules" });
    await feed(page).filter({ hasText: `(swap): swapped to ${version}` }).waitFor();
    await modules.getByRole("status").filter({ hasText: version }).waitFor();
    await modules.getByTitle(version).waitFor();
    await feed(page).filter({ hasText: `{"id":2} by unruly ${version.slice(0, 12)}` }).waitFor();
    const lines = (await feed(page).allInnerTexts()).filter((line) => !line.includes("history"));
    const [second, first] = [2, 1].map((id) => lines.findIndex((line) => line.includes(`{"id":${id}}`)));
    assert.ok(second >= 0 && first > second, lines.join("\n"));

    await fetch(`${url}/api/v1/modules/unruly/rollback`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "slipring-command": "1" },
    });
    await feed(page).filter({ hasText: "(rollback)" }).waitFor();
  });
  await deploy('mark = "three"');
});

test("a page that is loaded again finds the channels and what they have", async (context) => {
  await send("unruly:before", { note: "from before" });
  await visit(context.name, { path: PATH }, async (page) => {
    await card(page, "unruly:before").getByText("from before").waitFor();
    await feed(page).filter({ hasText: "from before" }).filter({ hasText: "from the history" }).waitFor();
  });
});

test("a channel, data and a tag with markup are text", async (context) => {
  const channel = `unruly:${MARKUP}`;
  await visit(context.name, { path: PATH }, async (page) => {
    await connected(page);
    await send(channel, { [MARKUP]: MARKUP }, { tags: { [MARKUP]: MARKUP } });
    await send("unruly:text", MARKUP);
    await send(`nowhere:${MARKUP}`, 1);
    await card(page, channel).getByText(MARKUP, { exact: true }).nth(2).waitFor();
    await card(page, "unruly:text").getByText(JSON.stringify(MARKUP)).waitFor();
    await card(page, `nowhere:${MARKUP}`).getByText("102 unknown channel").waitFor();
    await feed(page).filter({ hasText: channel }).first().waitFor();
    await ranNoText(page);
  });
});

test("binary data is shown, and a refused channel says what to change", async (context) => {
  await visit(context.name, { path: PATH }, async (page) => {
    await connected(page);
    await send("nowhere:7", 1);
    await card(page, "nowhere:7").getByText(/102 unknown channel.*Add the namespace nowhere to channel\.namespaces/).waitFor();
    await send("unruly:binary", null, { bytes: [255, 0, 1] });
    await card(page, "unruly:binary").getByText("/wAB").waitFor();
    await send("unruly:exact", { id: 1 });
    await publish({ subject: "unruly.ok", payload: '{"long":12345678901234567890}' });
    await card(page, "unruly:ok").getByText("12345678901234567890").waitFor();
  });
});

test("a namespace without a history says so, and shows what comes next", async (context) => {
  await visit(context.name, { path: PATH }, async (page) => {
    await connected(page);
    await send("plain:1", { id: 1 });
    await card(page, "plain:1").getByText(/gives no history/).waitFor();
    await send("plain:1", { id: 2 });
    await card(page, "plain:1").getByText("2", { exact: true }).waitFor();
  });
});

test("an outage of Centrifugo shows with its cause, and afterwards what was published meanwhile arrives", async (context) => {
  await visit(context.name, { path: PATH }, async (page, expect) => {
    expect(/WebSocket connection to/);
    await connected(page);
    await send("unruly:steady", { id: 1 });
    await card(page, "unruly:steady").getByText("1", { exact: true }).waitFor();
    await ask({ do: "kill-centrifugo" });
    const lost = page.getByRole("status").filter({ hasText: /^✕ No connection to ws:/ });
    await lost.getByText(/Check that Centrifugo runs at this address/).waitFor();
    // The relay notices it when it has something to publish.
    await send("unruly:steady", { id: 2 });
    await lost.getByText(/The relay cannot reach Centrifugo either: /).waitFor();
    context.diagnostic(await lost.innerText());
    await feed(page).filter({ hasText: "(Centrifugo lost)" }).waitFor();
    await ask({ do: "start-centrifugo" });
    await connected(page);
    await within(BACK, "what was published meanwhile", async () => /id\s+2\b/.test(await card(page, "unruly:steady").innerText()));
    await feed(page).filter({ hasText: "(Centrifugo is back)" }).waitFor();
    const twice = (await feed(page).allInnerTexts()).filter((line) => line.includes('unruly:steady {"id":2}'));
    assert.equal(twice.length, 1, twice.join("\n"));
  });
});

test("more channels than fit are counted, and those that fit go on", async (context) => {
  await visit(context.name, { path: PATH }, async (page) => {
    await connected(page);
    const channels = (from) => JSON.stringify([...Array(60).keys()].map((number) => `unruly:many-${from + number}`));
    await publish([
      { subject: "unruly.channels", payload: channels(0) },
      { subject: "unruly.channels", payload: channels(60) },
    ]);
    await page.getByText(new RegExp(`^${MOST_CHANNELS} channels, and \\d+ more than the ${MOST_CHANNELS} that fit$`)).waitFor();
    await send("unruly:many-0", { goes: "on" });
    await card(page, "unruly:many-0").getByText("on", { exact: true }).waitFor();
  });
});

test("a pause keeps the list as it is, and nothing is lost", async (context) => {
  await visit(context.name, { path: PATH }, async (page) => {
    await connected(page);
    await send("unruly:calm", { id: 1 });
    await card(page, "unruly:calm").getByText("1", { exact: true }).waitFor();
    const pause = page.getByRole("button", { name: "Pause" });
    await pause.click();
    await send("unruly:calm", { id: 2 });
    await send("unruly:calm", { id: 3 });
    // A second page shows when they have arrived.
    await visit(`${context.name}, elsewhere`, { path: PATH }, async (other) => {
      await card(other, "unruly:calm").getByText("3", { exact: true }).waitFor();
    });
    assert.match(await card(page, "unruly:calm").innerText(), /id\s+1\s/);
    await pause.click();
    await within(BACK, "both", async () => /id\s+3\s.*3 arrivals/s.test(await card(page, "unruly:calm").innerText()));
  });
});

/** Fills the view with a bit of everything. */
async function fill(page) {
  await connected(page);
  await send("unruly:order-7", { status: "paid", lines: [{ sku: "A-1", note: "x".repeat(300) }] }, { tags: { by: "courier" } });
  await send(`unruly:${"long".repeat(40)}`, "one word ".repeat(60));
  await send("nowhere:7", 1);
  await card(page, "nowhere:7").getByText("102 unknown channel").waitFor();
  await card(page, "unruly:order-7").getByText("paid").first().waitFor();
  await feed(page).filter({ hasText: "one word" }).first().waitFor();
}

test("nothing is wider than a window of 360 px", async (context) => {
  await visit(context.name, { path: PATH, width: 360, height: 740 }, async (page) => {
    await fill(page);
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]);
    const [root, body, window] = widths;
    assert.ok(root <= window && body <= window, `${widths}`);
  });
});

for (const theme of ["light", "dark"]) {
  test(`axe finds nothing serious in ${theme} colours`, async (context) => {
    await visit(context.name, { path: PATH, theme }, async (page) => {
      await fill(page);
      const version = await deploy(`mark = "${theme}"`);
      await feed(page).filter({ hasText: `(swap): swapped to ${version}` }).waitFor();
      assert.deepEqual(await obstaclesFor(page), []);
    });
  });
}

test("what has changed is highlighted only for those who want motion", async (context) => {
  for (const [motion, expected] of [["no-preference", true], ["reduce", false]]) {
    await visit(`${context.name} ${motion}`, { path: PATH, motion }, async (page) => {
      await connected(page);
      await page.evaluate(() => {
        window.begun = [];
        document.addEventListener("animationstart", ({ animationName, target }) => window.begun.push(`${animationName} ${target.textContent}`));
      });
      await send("unruly:moving", { is: motion });
      await feed(page).filter({ hasText: `{"is":"${motion}"}` }).first().waitFor();
      const begun = async () => (await page.evaluate(() => window.begun)).includes(`fresh ${motion}`);
      if (expected) await within(BACK, "the highlight", begun);
      else assert.deepEqual(await page.evaluate(() => window.begun), []);
    });
  }
});

test("the keyboard alone opens the view, pauses it and scrolls its list", async (context) => {
  await visit(context.name, {}, async (page) => {
    await page.getByRole("link", { name: "Arrivals" }).waitFor();
    await tabTo(page, "the link", (text, kind) => kind === "A" && text === "Arrivals");
    await page.keyboard.press("Enter");
    await connected(page);
    await send("unruly:keys", { id: 1 });
    await feed(page).first().waitFor();
    await tabTo(page, "the button that pauses", (text) => text === "Pause");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Pause", pressed: true }).waitFor();
    await tabTo(page, "the list", (text) => text === "What arrived, newest first");
  });
});
