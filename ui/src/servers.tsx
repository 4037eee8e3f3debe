// The servers that the relay depends on, its memory and its modules, in short.

import { bytes } from './format';
import { status } from './live';
import { Fact, Moment } from './parts';
import type { Status } from './types';

export function Servers() {
  const known = status.value;
  if (!known) return null;
  const { nats, centrifugo, memory } = known;
  return (
    <section class="panel" aria-label="Servers and memory">
      <dl class="facts">
        {nats && (
          <Fact name="NATS">
            <Health good={nats.connected} text={nats.connected ? 'connected' : (nats.trouble ?? 'not connected')} />
            {nats.server && <small>version {nats.server}</small>}
            <Addresses all={nats.servers} />
            {nats.connected && nats.trouble && <small class="words">{nats.trouble}</small>}
          </Fact>
        )}
        <Fact name="Centrifugo">
          <Health good={centrifugo.trouble === null} text={centrifugo.trouble ?? 'no trouble'} />
          <Addresses all={centrifugo.endpoints} />
        </Fact>
        {memory && (
          <Fact name="Memory for messages">
            {bytes(memory.used)} <span class="muted">of {bytes(memory.limit)}</span>
            <meter min={0} max={memory.limit || 1} high={memory.limit * 0.9} value={memory.used} aria-label="Memory used" />
          </Fact>
        )}
        <Modules known={known} />
        <Fact name="Relay">
          {known.version}
          <small>
            since <Moment at={known.started} />
          </small>
        </Fact>
      </dl>
    </section>
  );
}

function Health({ good, text }: { good: boolean; text: string }) {
  return (
    <span class={`words tone-${good ? 'ok' : 'bad'} ink`}>
      <span aria-hidden="true">{good ? '●' : '✕'}</span> {text}
    </span>
  );
}

function Addresses({ all }: { all: string[] | undefined }) {
  return (
    <>
      {(all ?? []).map((address, index) => (
        <small key={index} class="words">
          {address}
        </small>
      ))}
    </>
  );
}

function Modules({ known }: { known: Status }) {
  const by = new Map<string, number>();
  for (const { state } of known.modules) by.set(state, (by.get(state) ?? 0) + 1);
  const others = [...by].filter(([state]) => state !== 'running').map(([state, number]) => `${number} ${state}`);
  return (
    <Fact name="Modules">
      {by.get('running') ?? 0} running <span class="muted">of {known.modules.length}</span>
      {others.length > 0 && <small>{others.join(', ')}</small>}
    </Fact>
  );
}
