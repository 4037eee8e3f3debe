// Why nothing arrives, and what to do about it.

import type { Link } from './arrivals-client';

/** Returns the namespace of a channel, or null if it has none. */
function namespaceOf(channel: string): string | null {
  const colon = channel.indexOf(':');
  return colon < 0 ? null : channel.slice(channel.startsWith('$') ? 1 : 0, colon);
}

/** Says why Centrifugo refuses a subscription. */
export function refusal(channel: string, code: number, reason: string): string {
  const name = namespaceOf(channel);
  const said = `Centrifugo refuses the subscription: ${code} ${reason}.`;
  const where = name === null ? '`channel.without_namespace`' : `the namespace \`${name}\``;
  switch (code) {
    case 102:
      if (name === null) return `${said} The channel has no namespace.`;
      return `${said} Add ${where} to \`channel.namespaces\` in Centrifugo’s configuration, and start Centrifugo again.`;
    case 103:
      return `${said} Set \`allow_subscribe_for_anonymous\` in ${where} of Centrifugo’s configuration, or \`client.insecure\` for development, and start Centrifugo again.`;
    case 106:
      return `${said} Raise \`client.channel_limit\` in Centrifugo’s configuration.`;
    default:
      return said;
  }
}

/** Says what there is to do if there is no connection. */
export function advice(link: Link, origin: string, trouble: string | null): string {
  if (link.state === 'ended') {
    return 'The page connects without a token. Centrifugo allows that with `client.insecure` or with `client.allow_anonymous_connect_without_token`.';
  }
  if (trouble !== null) return `The relay cannot reach Centrifugo either: ${trouble.replace(/\.?$/, '.')}`;
  return `Check that Centrifugo runs at this address, and that its \`client.allowed_origins\` contains \`${origin}\`.`;
}
