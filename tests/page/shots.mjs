// Takes the pictures of the manual, in the directory that PAGE_SHOTS names.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, quit, visit } from "./browser.mjs";
import { end } from "./control.mjs";
import { needed } from "./environment.mjs";
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
        const file = `${name.replace(" ", "-")}-${look}.png`;
        await page.screenshot({ path: join(directory, file), animations: "disabled" });
      });
    }
  });
}
