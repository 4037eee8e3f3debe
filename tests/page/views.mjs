// The views of the page, each with something in it.

import { endFlow, flow } from "./control.mjs";

export const MESSAGE = { subject: "unruly.ok", payload: '{"id":17,"status":"paid"}' };

/** The name of each button that leads back to a version. */
export const ROLL_BACK = /^Roll back to /;

/** What each view shows of a module, and what a person does there first. Dead letters of the module must exist. */
export const viewsOf = (module, message = MESSAGE) => [
  { name: "overview", path: "#/", fill: fillOverview(module) },
  { name: "module", path: `#/modules/${module}`, fill: fillModule },
  { name: "dead letters", path: "#/dead-letters", fill: fillDeadLetters },
  { name: "tap", path: `#/tap?module=${module}`, fill: (page) => fillTap(page, message) },
  { name: "playground", path: `#/try?module=${module}`, fill: (page) => fillPlayground(page, message) },
];

const fillOverview = (module) => async (page) => {
  await page.getByRole("link", { name: module, exact: true }).first().waitFor();
};

async function fillModule(page) {
  await page.getByRole("button", { name: ROLL_BACK }).first().waitFor();
  await page.getByRole("button", { name: "Compare", exact: true }).click();
  await page.getByRole("status").filter({ hasText: /outcomes? of/ }).waitFor();
  const differences = page.locator("article").getByRole("button", { expanded: false });
  if ((await differences.count()) > 0) await differences.first().click();
}

export async function fillDeadLetters(page) {
  await page.getByRole("listitem").getByRole("button", { expanded: false }).first().click();
  await page.getByRole("heading", { name: "What the module makes of it now" }).waitFor();
}

async function fillTap(page, message) {
  await page.getByRole("button", { name: "Start" }).click();
  await flow(message, 20);
  const line = page.getByRole("listitem").getByRole("button", { expanded: false }).last();
  await line.click();
  await endFlow();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("The tap is paused.").waitFor();
  await page.getByRole("heading", { name: "Outcome" }).first().waitFor();
}

export async function fillPlayground(page, { subject, payload, sequence }) {
  const text = JSON.stringify({ subject, data: JSON.parse(payload), sequence }, null, 2);
  await page.getByLabel("Message as JSON").fill(text);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await outcomeOf(page).getByText(/version [0-9a-f]/).waitFor();
}

/** Returns the part of the playground that shows the outcome. */
export const outcomeOf = (page) => page.getByRole("region", { name: "Outcome" });
