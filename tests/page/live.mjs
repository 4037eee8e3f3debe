// What an operator sees and does while a relay with one module runs, and its servers come and go. The module is
// tests/guests/unruly: it does what the last part of a message's subject says.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { fact, focused, launch, numberIn, obstaclesFor, quit, ranNoText, rowOf, tabTo, visit, within } from "./browser.mjs";
import { ask, end, endFlow, flow, publish } from "./control.mjs";
import { token, url } from "./environment.mjs";
import { behindPrefix } from "./proxy.mjs";
import { arrives, deploy, lastSequence, moduleStatus, versionInUse } from "./relay.mjs";
import { fillPlayground, MESSAGE, outcomeOf, ROLL_BACK, viewsOf } from "./views.mjs";

const MODULE = "unruly";

/** Markup in a text. */
const MARKUP = '<img src=x onerror="window.pwned=1">';

/** The same in a subject, which has no blanks. The dots divide it. */
const MARKUP_IN_SUBJECT = '<img/src=x/onerror="window.pwned=1">';

/** How long the relay may take to find a server that is back, in milliseconds. */
const BACK = 20_000;

before(launch);
after(async () => {
  await quit();
  end();
});

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;

test("numbers move within 2 s after messages were published", async (context) => {
  await visit(context.name, {}, async (page) => {
    const rate = fact(page, "Published per second");
    const inRow = rowOf(page, MODULE).locator("[data-label='Published/s']");
    await within(BACK, "nothing is published yet", async () => !(await numberIn(rate)) && !(await numberIn(inRow)));
    await publish(MESSAGE, 300);
    const taken = await within(2000, "the rates move", async () => (await numberIn(rate)) > 0 && (await numberIn(inRow)) > 0);
    context.diagnostic(`after ${seconds(taken)}`);

    await page.getByRole("link", { name: MODULE, exact: true }).first().click();
    await page.getByRole("heading", { name: MODULE, level: 1 }).waitFor();
    for (const name of ["Received", "Transformed", "Published"]) {
      await within(BACK, `${name} is 300`, async () => (await numberIn(fact(page, name))) === 300);
    }
  });
});

async function outage(context, { kill, start, server, cause, lost, back }) {
  await visit(context.name, {}, async (page) => {
    const shown = fact(page, server);
    const obstacles = page.getByRole("region", { name: "Not ready" });
    await page.getByText("● Ready").waitFor();
    await flow(MESSAGE, 20);
    await within(BACK, "messages pass", async () => (await numberIn(fact(page, "Published per second"))) > 0);

    const killed = performance.now();
    await ask({ do: kill });
    const sees = async () => {
      const text = await shown.innerText();
      return cause.test(text) && (await obstacles.count()) > 0 && cause.test(await obstacles.innerText());
    };
    await within(5000, `${server} is away`, sees);
    await page.getByText("✕ Not ready", { exact: true }).first().waitFor();
    context.diagnostic(`shown after ${seconds(performance.now() - killed)}: ${(await shown.innerText()).split("\n")[0]}`);
    await page.getByRole("listitem").filter({ hasText: lost }).first().waitFor();

    await ask({ do: start });
    const returned = performance.now();
    await page.getByText("● Ready").waitFor();
    context.diagnostic(`gone ${seconds(performance.now() - returned)} after the server was back`);
    await within(BACK, `${server} is back`, async () => /^●/.test(await shown.innerText()));
    assert.equal(await obstacles.count(), 0, "nothing is in the way any more");
    await page.getByRole("listitem").filter({ hasText: back }).first().waitFor();
    await endFlow();
  });
}

test("an outage of nats-server shows within 5 s with its cause, and goes again", (context) =>
  outage(context, {
    kill: "kill-nats",
    start: "start-nats",
    server: "NATS",
    cause: /refused|closed|reset/i,
    lost: "NATS lost",
    back: "NATS is back",
  }));

test("an outage of Centrifugo shows within 5 s with its cause, and goes again", (context) =>
  outage(context, {
    kill: "kill-centrifugo",
    start: "start-centrifugo",
    server: "Centrifugo",
    cause: /refused|closed|reset/i,
    lost: "Centrifugo lost",
    back: "Centrifugo is back",
  }));

test("a dead letter is shown, replayed, arrives at a subscriber, and is gone; a group of them is removed", async (context) => {
  await ask({ do: "subscribe", channels: ["unruly:ok"] });
  await publish({ subject: "unruly.reject", payload: '{"id":7}' });
  await publish({ subject: "unruly.reject", payload: '{"id":8}' }, 20);
  await ask({ do: "dead-letters", count: 21 });
  await deploy('wish = "ok"');

  await visit(context.name, { path: "#/dead-letters" }, async (page) => {
    const reason = 'rejected as asked: {"id":7}';
    const [letter, group] = ["listitem", "row"].map((role) => page.getByRole(role).filter({ hasText: reason }));
    await group.getByText("transform").waitFor();
    assert.equal(await numberIn(group.locator("[data-label='Count']")), 1);
    await letter.getByRole("button", { expanded: false }).click();
    await letter.getByText(reason, { exact: true }).waitFor();
    assert.match(await letter.getByLabel("Payload", { exact: true }).innerText(), /^\{\s*"id": 7\s*\}$/);
    await letter.getByText("unruly:ok").first().waitFor();

    await letter.getByRole("button", { name: "Replay", exact: true }).click();
    await arrives('{"id":7}');
    await page.getByRole("status").filter({ hasText: /\b1 published\b/ }).waitFor();
    await letter.waitFor({ state: "detached" });
    await group.waitFor({ state: "detached" });

    const others = page.getByRole("row").filter({ hasText: 'rejected as asked: {"id":8}' });
    assert.equal(await numberIn(others.locator("[data-label='Count']")), 20);
    await others.getByRole("button", { name: /^Remove 20 dead letters of unruly/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Remove" }).click();
    await page.getByText("There are no dead letters.").waitFor();
    assert.deepEqual(await ask({ do: "received" }), [], "what is removed is not published");
  });
});

/**
 * Two versions of the module, for the checks below. The bad one publishes to a namespace that Centrifugo does not know, but not
 * for messages that came before it, or its probe would find that.
 */
const versions = {};

test("a bad version is rolled back by hand, and the one before it runs again", async (context) => {
  versions.good = await deploy('mark = "good"');
  versions.lostFrom = (await lastSequence()) + 1;
  versions.bad = await deploy(`mark = "bad"\nlost_from = ${versions.lostFrom}`);
  await publish({ subject: "unruly.ok", payload: '{"lost":1}' });
  await ask({ do: "dead-letters", count: 1 });

  await visit(context.name, { path: `#/modules/${MODULE}` }, async (page) => {
    const row = (version) => page.getByRole("row").filter({ has: page.getByTitle(version) });
    await row(versions.bad).getByText("● running").waitFor();
    await page.getByRole("button", { name: new RegExp(`^Roll back to .*${versions.good}`) }).click();
    const dialog = page.getByRole("dialog", { name: "Roll back unruly?" });
    for (const version of [versions.good, versions.bad]) await dialog.getByText(version).waitFor();
    await dialog.getByRole("button", { name: "Roll back" }).click();

    await row(versions.good).getByText("● running").waitFor();
    await page.getByRole("status").filter({ hasText: versions.good.slice(0, 12) }).waitFor();
    await page.getByText(/Rolled back at/).waitFor();
    await page.getByRole("listitem").filter({ hasText: "(rollback)" }).first().waitFor();
    context.diagnostic(await page.getByText(/Rolled back at/).locator("..").innerText());
    assert.equal(await versionInUse(), versions.good);
    await publish({ subject: "unruly.ok", payload: '{"found":1}' });
    await arrives('{"found":1}');
  });
});

test("the diff of two versions shows what differs", async (context) => {
  await visit(context.name, { path: `#/modules/${MODULE}` }, async (page) => {
    const compare = page.getByRole("region", { name: "Compare two versions" });
    await compare.getByRole("combobox", { name: /^Old/ }).selectOption(versions.good);
    await compare.getByRole("combobox", { name: /^New/ }).selectOption(versions.bad);
    await compare.getByRole("button", { name: "Compare" }).click();
    await compare.getByText(/^[1-9][0-9,]* outcomes? of [0-9,]+ messages? differs?\./).waitFor();
    await compare.getByRole("button", { expanded: false }).first().click();
    const sides = compare.getByRole("group", { name: "Outcomes of the old and the new version" });
    const text = await sides.innerText();
    assert.match(text, /−.*"(unruly:ok|good)"/);
    assert.match(text, /\+.*"(nowhere:1|bad)"/);
  });
});

test("the tap shows messages after Start, and nothing before", async (context) => {
  await visit(context.name, { path: "#/tap" }, async (page) => {
    const lines = page.getByRole("listitem");
    await page.getByText("The tap is paused.").waitFor();
    const { received } = await moduleStatus();
    await publish(MESSAGE, 10);
    await within(BACK, "the module has them", async () => (await moduleStatus()).received === received + 10);
    assert.equal(await lines.count(), 0);

    await page.getByRole("button", { name: "Start" }).click();
    await flow({ subject: "unruly.ok", payload: '{"tapped":1}' }, 10);
    const line = lines.filter({ hasText: "unruly.ok" }).last();
    await line.getByRole("button").click();
    await line.getByText("unruly:ok").first().waitFor();
    assert.match(await line.getByLabel("Payload", { exact: true }).innerText(), /"tapped": 1/);
    assert.match(await line.innerText(), /\d µs/);

    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText("The tap is paused.").waitFor();
    await flow({ subject: "unruly.late.ok", payload: '{"late":1}' }, 10);
    const { received: seen } = await moduleStatus();
    await within(BACK, "more messages pass", async () => (await moduleStatus()).received >= seen + 20);
    assert.equal(await lines.filter({ hasText: "unruly.late.ok" }).count(), 0, "a paused tap shows nothing more");
    await endFlow();
  });
});

test("the playground runs a message that was pasted, and one of the last", async (context) => {
  await ask({ do: "received" });
  await visit(context.name, { path: `#/try?module=${MODULE}` }, async (page) => {
    const outcome = outcomeOf(page);
    await fillPlayground(page, { subject: "unruly.ok", payload: '{"pasted":1}', sequence: versions.lostFrom });
    await outcome.getByText("publish").waitFor();
    await outcome.getByText("unruly:ok").first().waitFor();
    assert.match(await outcome.getByLabel("Data for unruly:ok").innerText(), /"pasted": 1/);

    await page.getByLabel("Version").selectOption(versions.bad);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await outcome.getByText("nowhere:1").first().waitFor();
    await outcome.getByText(versions.bad).waitFor();
    await page.getByLabel("Version").selectOption("");

    const editor = page.getByLabel("Message as JSON");
    await editor.fill('{"subject": "unruly.ok", "data": }');
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await within(BACK, "the mistake is marked", async () => (await editor.getAttribute("aria-invalid")) === "true");

    await page.getByRole("button", { name: "Load them" }).click();
    await page.getByRole("listitem").filter({ hasText: "late" }).first().getByRole("button").click();
    assert.equal(JSON.parse(await editor.inputValue()).subject, "unruly.late.ok");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await within(BACK, "its outcome", async () =>
      /"late": 1/.test(await outcome.getByLabel("Data for unruly:ok").first().innerText()),
    );
  });
  const published = (await ask({ do: "received" })).filter(({ data }) => data.includes("pasted"));
  assert.deepEqual(published, [], "nothing is published");
});

test("without the token the overview works, and a command asks for it", async (context) => {
  await deploy('mark = "next"');
  await visit(context.name, { signedIn: false }, async (page, expect) => {
    // What a browser says about each of them. The version in the directory runs, so there is nothing to load again.
    expect(/\b(401|409)\b/);
    await rowOf(page, MODULE).getByText("running").waitFor();
    assert.equal(await page.getByRole("dialog").count(), 0);

    await page.getByRole("link", { name: MODULE, exact: true }).first().click();
    await page.getByRole("button", { name: "Load the files again" }).click();
    const dialog = page.getByRole("dialog", { name: /token/ });
    await dialog.getByLabel("Token").fill("not-this-one");
    await page.keyboard.press("Enter");
    await dialog.getByText("has a wrong token").waitFor();
    await dialog.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "detached" });
    await page.getByRole("region", { name: "Versions" }).getByRole("status").filter({ hasText: /\w/ }).waitFor();

    await page.getByRole("button", { name: "Forget the token" }).click();
    assert.equal(await page.getByRole("button", { name: "Forget the token" }).count(), 0);
    assert.equal(await page.evaluate(() => JSON.stringify(sessionStorage) + JSON.stringify(localStorage)), "{}{}");
  });
});

test("a payload, a reason, a channel and a subject with markup are text everywhere", async (context) => {
  const rejected = [
    { subject: "unruly.reject", payload: MARKUP, headers: { Note: MARKUP } },
    { subject: "unruly.ok", payload: JSON.stringify(MARKUP), headers: { Channel: `nowhere:${MARKUP}` } },
    { subject: `unruly.${MARKUP_IN_SUBJECT}.reject`, payload: MARKUP },
  ];
  await publish(rejected);
  await ask({ do: "dead-letters", count: 4 });
  await ask({ do: "deploy", settings: `fail = '${MARKUP}'` });
  await within(BACK, "the version is refused", async () => (await moduleStatus()).last_refusal?.includes(MARKUP));

  await visit(context.name, { path: "#/dead-letters" }, async (page) => {
    const closed = page.getByRole("listitem").getByRole("button", { expanded: false });
    await closed.first().waitFor();
    const count = await closed.count();
    for (let opened = 0; opened < count; opened += 1) await closed.first().click();
    await page.getByRole("heading", { name: "What the module makes of it now" }).nth(count - 1).waitFor();
    await page.getByRole("definition").filter({ hasText: `nowhere:${MARKUP}` }).first().waitFor();
    for (const text of [MARKUP, MARKUP_IN_SUBJECT]) await page.getByText(text).first().waitFor();
    // The reason is in the address of this view.
    await page.getByRole("link", { name: /onerror/ }).first().click();
    await page.getByRole("link", { name: "Show all" }).waitFor();
    await page.getByText(MARKUP).first().waitFor();
  });
  await visit(`${context.name} of a module`, { path: `#/modules/${MODULE}` }, async (page) => {
    await page.getByText("The newest files were refused").waitFor();
    await page.getByText(MARKUP).first().waitFor();
    await page.goto(`${url}/#/`);
    await page.getByRole("listitem").filter({ hasText: MARKUP }).first().waitFor();
    await page.goto(`${url}/#/modules/${encodeURIComponent(MARKUP)}`);
    await page.getByRole("heading", { name: MARKUP }).waitFor();
  });
  await visit(`${context.name} of the tap`, { path: "#/tap" }, async (page) => {
    await page.getByRole("button", { name: "Start" }).click();
    const line = page.getByRole("listitem").filter({ hasText: `unruly:${MARKUP}` });
    await within(BACK, "the tap shows it", async () => {
      const headers = { Channel: `unruly:${MARKUP}`, Note: MARKUP };
      await publish({ subject: "unruly.ok", payload: JSON.stringify(MARKUP), headers });
      return (await line.count()) > 0;
    });
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("button", { name: "Start" }).waitFor();
    await line.first().getByRole("button").click();
    // A message that came just before the pause may have become the first one.
    const opened = line.filter({ has: page.getByRole("heading", { name: "Outcome" }) }).first();
    await opened.waitFor();
    await ranNoText(page);
    await opened.getByRole("button", { name: "Try in the playground" }).click();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await outcomeOf(page).getByText(`unruly:${MARKUP}`).first().waitFor();
    await ranNoText(page);
    await fillPlayground(page, { subject: "unruly.reject", payload: JSON.stringify(MARKUP) });
    await outcomeOf(page).getByText(/rejected as asked/).waitFor();
  });
  // The files are good again.
  await deploy('mark = "after"');
});

test("nothing is wider than a window of 360 px", async (context) => {
  for (const { name, path, fill } of viewsOf(MODULE)) {
    await visit(`${context.name} ${name}`, { path, width: 360, height: 740 }, async (page) => {
      await fill(page);
      const widths = await page.evaluate(() => [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]);
      const [root, body, window] = widths;
      assert.ok(root <= window && body <= window, `${name}: ${widths}`);
    });
  }
});

for (const theme of ["light", "dark"]) {
  test(`axe finds nothing serious in ${theme} colours`, async (context) => {
    for (const { name, path, fill } of viewsOf(MODULE)) {
      await visit(`${context.name} ${name}`, { path, theme }, async (page) => {
        await fill(page);
        assert.deepEqual(await obstaclesFor(page), [], name);
        if (name !== "module") return;
        await page.getByRole("button", { name: ROLL_BACK }).first().click();
        await page.getByRole("dialog").waitFor();
        assert.deepEqual(await obstaclesFor(page), [], "the dialog");
      });
    }
  });
}

test("the keyboard alone reaches a module and the dialog of its rollback, and the focus returns", async (context) => {
  await visit(context.name, {}, async (page) => {
    await rowOf(page, MODULE).waitFor();
    await tabTo(page, "the link of the module", (text, kind) => kind === "A" && text === MODULE);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: ROLL_BACK }).first().waitFor();
    await tabTo(page, "the button of a rollback", (text) => ROLL_BACK.test(text));
    const button = await focused(page);
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    const inside = () => page.evaluate(() => document.querySelector("dialog")?.contains(document.activeElement));
    assert.ok(await inside(), "the focus is in the dialog");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.deepEqual(await focused(page), button, "the focus is where it was");

    await page.keyboard.press("Enter");
    await dialog.waitFor();
    await tabTo(page, "the button that closes the dialog", (text) => text === "Cancel");
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "detached" });
    assert.deepEqual(await focused(page), button);
  });
});

test("without an address of Centrifugo for browsers, no link leads to the arrivals, and the view says what to set", async (context) => {
  await visit(context.name, {}, async (page) => {
    await page.getByText("● Ready").waitFor();
    await page.goto(`${url}/#/arrivals`);
    await page.getByText('centrifugo_websocket = "ws://').waitFor();
    assert.equal(await page.getByRole("link", { name: "Arrivals" }).count(), 0);
    assert.deepEqual(await obstaclesFor(page), []);
  });
});

test("behind a path prefix the overview and a command work", async (context) => {
  const proxy = await behindPrefix(url);
  try {
    await visit(context.name, { base: `${proxy.url}/slipring` }, async (page, expect) => {
      expect(/\b409\b/);
      await page.getByText("● Ready").waitFor();
      await page.getByRole("link", { name: MODULE, exact: true }).first().click();
      await page.getByRole("button", { name: "Load the files again" }).click();
      await page.getByRole("region", { name: "Versions" }).getByRole("status").filter({ hasText: /\w/ }).waitFor();
      await page.getByRole("link", { name: "Playground" }).first().click();
      await fillPlayground(page, MESSAGE);
      assert.match(page.url(), /\/slipring\/#\/try/);
    });
  } finally {
    proxy.close();
  }
});
