// What the test that starts a script tells it.

export function needed(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set. The scripts are run by \`make test-page\`, with live servers.`);
  return value;
}

/** The address of the relay's admin server, without a slash at the end. */
export const url = needed("PAGE_URL");

/** The token for everything. */
export const token = needed("PAGE_TOKEN");
