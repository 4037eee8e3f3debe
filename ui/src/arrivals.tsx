// What arrives at a subscriber, while modules are written and swapped. Loaded only when somebody opens it.

import { useSignal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { ApiError } from './api';
import { Board } from './arrivals-board';
import { followTap, recall } from './arrivals-channels';
import { Client } from './arrivals-client';
import { offered } from './offer';
import { BoardPanel, Feed, LinkState, Running } from './arrivals-parts';
import { marks, names, now, status } from './live';
import { Problem, useToken } from './parts';
import type { Mark } from './types';

/** What arrives within this time is drawn together. */
const DRAW_MS = 200;
/** So late the relay may tell what has happened, in seconds. */
const LATE_S = 5;

export function ArrivalsView() {
  const offer = offered.value;
  if (offer === null) return <p class="muted">Waiting for the relay…</p>;
  if (!offer.websocket) return <Absent />;
  return <Connected key={offer.websocket} address={offer.websocket} />;
}

function Absent() {
  return (
    <section class="panel" aria-labelledby="absent">
      <h2 id="absent">The relay does not know where browsers reach Centrifugo</h2>
      <p>Set the address of its WebSocket in slipring.toml, and start the relay again:</p>
      <pre class="code" role="group" tabIndex={0} aria-label="Example">
        {'[admin]\ncentrifugo_websocket = "ws://127.0.0.1:8000/connection/websocket"'}
      </pre>
      <p class="muted">
        Then, this view subscribes to the channels that the modules publish to, as an anonymous client. It is meant for development.{' '}
        <code>slipring up</code> sets it by itself.
      </p>
    </section>
  );
}

function Connected({ address }: { address: string }) {
  const [board] = useState(() => new Board());
  const client = useSignal<Client | null>(null);
  const refused = useSignal<ApiError | null>(null);
  const tap = useSignal<ApiError | null>(null);
  const again = useSignal(0);
  const token = useToken();

  useEffect(() => {
    let opened: Client;
    try {
      opened = new Client(address, board);
    } catch (error) {
      // Such as an insecure address on a secure page.
      refused.value = new ApiError(0, `The browser cannot connect to ${address}: ${error instanceof Error ? error.message : error}`);
      return;
    }
    client.value = opened;
    const end = keepDrawing(board);
    return () => {
      end();
      opened.close();
    };
  }, []);

  useEffect(() => {
    const mine = client.value;
    if (!mine) return;
    const abort = new AbortController();
    const heard = (tapped: Parameters<Board['tapped']>[0]) => {
      for (const { channels = [] } of tapped.publications ?? []) for (const channel of channels) mine.follow(channel, true);
      board.tapped(tapped);
    };
    void followTap(abort.signal, heard, (problem) => (tap.value = problem));
    return () => abort.abort();
  }, [client.value, token, again.value]);

  const known = names.value.length > 0;
  useEffect(() => {
    const mine = client.value;
    if (!mine || !known) return;
    const abort = new AbortController();
    void recall(names.peek(), abort.signal, (channel) => mine.follow(channel, false));
    return () => abort.abort();
  }, [client.value, token, known]);

  useMarks(board);

  return (
    <>
      {refused.value && <Problem problem={refused.value} />}
      {client.value && (
        <LinkState
          link={client.value.link.value}
          address={address}
          trouble={status.value?.centrifugo.trouble ?? null}
          connect={() => client.value?.connect()}
        />
      )}
      {tap.value && <Problem problem={tap.value} again={() => (again.value += 1)} />}
      <Running board={board} />
      <div class="arrivals">
        <BoardPanel board={board} />
        <Feed board={board} />
      </div>
    </>
  );
}

/** Returns what ends it. */
function keepDrawing(board: Board): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  const later = (wait: number, then: () => void) => {
    if (!ended) timer = setTimeout(then, wait);
  };
  const draw = () => {
    const begin = performance.now();
    if (!document.hidden) board.draw();
    // Where much arrives, the browser takes long to show it, and has other things to do as well.
    requestAnimationFrame(() => later(0, () => later(Math.max(DRAW_MS, 2 * (performance.now() - begin)), draw)));
  };
  draw();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** Puts what happens from now on into the list. */
function useMarks(board: Board): void {
  useEffect(() => {
    const begin = now - LATE_S;
    const keyOf = (mark: Mark) => `${mark.id} ${mark.time}`;
    const seen = new Set(marks.peek().map(keyOf));
    return marks.subscribe((all) => {
      for (const mark of all) {
        if (mark.time < begin || seen.has(keyOf(mark))) continue;
        seen.add(keyOf(mark));
        board.mark(mark);
      }
    });
  }, []);
}
