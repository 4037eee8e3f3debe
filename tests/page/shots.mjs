// Takes the pictures of the manual, in the directory that PAGE_SHOTS names.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, quit, visit } from "./browser.mjs";
import { ask, end, endFlow, publish } from "./control.mjs";
import { needed } from "./environment.mjs";
import { swapped } from "./relay.mjs";
import { viewsOf } from "./views.mjs";

const LOOKS = [
  { look: "light", theme: "light", width: 1280, height: 800 },
  { look: "dark", theme: "dark", width: 1280, height: 800 },
  { look: "narrow", theme: "light", width: 360, height: 740 },
];

/** The overview is shown down to its table. */
const TALL = 1060;

const directory = needed("PAGE_SHOTS");
const message = { subject: "orders.paid", payload: '{"id":1002,"revision":7,"status":"paid","lines":[{"sku":"A-1","quantity":2,"price_cents":450}]}' };

before(async () => {
  await mkdir(directory, { recursive: true });
  await launch();
});
after(async () => {
  await quit();
  end();
});

for (const { look, theme, width, height } of LOOKS) {
  test(`pictures: ${look}`, async () => {
    for (const { name, path, fill } of viewsOf("orders", message)) {
      if (name === "tap") continue;
      const tall = name === "overview" && look !== "narrow" ? TALL : height;
      await visit(`picture ${name} ${look}`, { path, theme, width, height: tall }, async (page) => {
        await fill(page);
        // The relay has told the page what was before, such as the outage.
        const charts = page.getByRole("img", { name: /^Backlog, .* highest [1-9]/ });
        if (["overview", "module"].includes(name)) await charts.waitFor();
        await page.evaluate(() => scrollTo(0, 0));
        await page.mouse.move(0, 0);
        await shoot(page, name, look);
      });
    }
  });
}

/** Orders in the versions of the demo's module, each with a revision that no event of the demo has reached. */
function orders(...all) {
  const messages = all.map(([id, status, quantity]) => {
    revision += 1;
    const lines = [{ sku: "A-1", quantity, price_cents: 450 }];
    return { subject: `orders.${status}`, payload: JSON.stringify({ id, revision, status, customer: "Ada", lines }) };
  });
  return publish(messages);
}

let revision = 1_000_000;

test("pictures: arrivals", async () => {
  await endFlow();
  for (const [index, { look, theme, width, height }] of LOOKS.entries()) {
    await visit(`picture arrivals ${look}`, { path: "#/arrivals", theme, width, height }, async (page) => {
      await page.getByRole("status").filter({ hasText: /^● Connected to ws:/ }).waitFor();
      const lines = page.getByRole("list", { name: "What arrived, newest first" }).getByRole("listitem");
      // The last module has told where it publishes.
      await page.getByRole("listitem", { name: "telemetry:pump-7", exact: true }).getByText(/arrivals/).waitFor();
      const [paid, delivered] = [10 + index, 20 + index];
      await orders([1001, "shipped", 4], [1002, "paid", 2], [1003, "paid", paid]);
      await lines.filter({ hasText: `"items":${paid}` }).waitFor();
      // The newer one runs since the swap that the charts show.
      const guest = index % 2 === 0 ? "orders" : "orders-next";
      const version = await swapped(`${guest} runs`, "orders", () => ask({ do: "swap", module: "orders", guest }));
      await lines.filter({ hasText: `(swap): swapped to ${version}` }).waitFor();
      await orders([1002, "shipped", 2], [1003, "delivered", delivered]);
      await lines.filter({ hasText: `"items":${delivered}` }).waitFor();
      await page.evaluate(() => scrollTo(0, 0));
      await shoot(page, "arrivals", look);
    });
  }
});

function shoot(page, name, look) {
  const path = join(directory, `${name.replace(" ", "-")}-${look}.png`);
  return page.screenshot({ path, animations: "disabled" });
}
