// A subscriber of Centrifugo, as an anonymous client is one. It speaks Protobuf, because binary data ends a connection that
// speaks JSON.

import { signal } from '@preact/signals';
import { Centrifuge, type PublicationContext, type Subscription } from 'centrifuge/build/protobuf';
import type { Board } from './arrivals-board';
import { refusal } from './arrivals-words';

export interface Link {
  state: 'connecting' | 'connected' | 'lost' | 'ended';
  cause: string;
}

/** How much of the past a new channel shows. */
const PAST = 10;

interface Place {
  subscription: Subscription;
  /** How many publications the tap has shown since nobody listened yet. They are not from the past. */
  expected: number;
  refused: boolean;
  /** What arrives while the history is being asked for. */
  held: PublicationContext[] | null;
  epoch: string;
  offset: number;
}

export class Client {
  readonly link = signal<Link>({ state: 'connecting', cause: '' });
  private readonly centrifuge: Centrifuge;
  private readonly places = new Map<string, Place>();

  /** Throws an error if this is no address of a WebSocket. */
  constructor(
    address: string,
    private readonly board: Board,
  ) {
    this.centrifuge = new Centrifuge(address, { name: 'slipring', minReconnectDelay: 300, maxReconnectDelay: 3000 });
    this.centrifuge.on('connecting', ({ code, reason }) => {
      if (code !== 0) this.link.value = { state: 'lost', cause: reason };
    });
    this.centrifuge.on('error', ({ error }) => {
      if (this.link.peek().state !== 'connected') this.link.value = { state: 'lost', cause: error.message };
    });
    this.centrifuge.on('disconnected', ({ code, reason }) => {
      if (code !== 0) this.link.value = { state: 'ended', cause: `${code} ${reason}` };
    });
    this.centrifuge.on('connected', () => {
      this.link.value = { state: 'connected', cause: '' };
      // Somebody may have changed Centrifugo's configuration.
      for (const place of this.places.values()) if (place.refused) this.again(place);
    });
    this.connect();
  }

  connect(): void {
    this.link.value = { state: 'connecting', cause: '' };
    this.centrifuge.connect();
  }

  close(): void {
    for (const { subscription } of this.places.values()) subscription.removeAllListeners();
    this.centrifuge.removeAllListeners();
    this.centrifuge.disconnect();
  }

  /** Listens to a channel, if there is room. `live` says that something was published there just now. */
  follow(channel: string, live: boolean): void {
    const known = this.places.get(channel);
    if (known) {
      if (live && known.held) known.expected += 1;
      return;
    }
    const gone = this.board.open(channel, live);
    if (gone === null) return;
    for (const name of gone) this.forget(name);
    const subscription = this.centrifuge.newSubscription(channel);
    const place: Place = { subscription, expected: live ? 1 : 0, refused: false, held: [], epoch: '', offset: 0 };
    this.places.set(channel, place);
    subscription.on('publication', (publication) => this.publication(place, publication));
    subscription.on('subscribing', () => (place.held ??= []));
    subscription.on('subscribed', () => void this.subscribed(place));
    subscription.on('unsubscribed', ({ code, reason }) => {
      place.refused = true;
      this.board.state(channel, 'refused', refusal(channel, code, reason));
    });
    subscription.subscribe();
  }

  private again(place: Place): void {
    place.refused = false;
    place.held = [];
    this.board.state(place.subscription.channel, 'subscribing');
    place.subscription.subscribe();
  }

  private forget(channel: string): void {
    const place = this.places.get(channel);
    if (!place) return;
    this.places.delete(channel);
    place.subscription.removeAllListeners();
    this.centrifuge.removeSubscription(place.subscription);
  }

  private publication(place: Place, publication: PublicationContext): void {
    if (place.held) place.held.push(publication);
    else this.arrive(place, publication, false);
  }

  private arrive(place: Place, { data, tags, offset }: PublicationContext, past: boolean): void {
    if (offset !== undefined) place.offset = offset;
    this.board.arrive(place.subscription.channel, { data: data as Uint8Array, tags, past });
  }

  /** Asks for what was published before, or while there was no connection. */
  private async subscribed(place: Place): Promise<void> {
    const { subscription } = place;
    let note = '';
    try {
      const history = await subscription.history({ limit: PAST, reverse: true });
      // Centrifugo has forgotten what it had, and counts from the beginning.
      if (history.epoch !== place.epoch) place.offset = 0;
      const first = place.epoch === '';
      place.epoch = history.epoch;
      const held = new Set(place.held?.map(({ offset }) => offset));
      const missed = history.publications.filter(({ offset = 0 }) => offset > place.offset && !held.has(offset)).reverse();
      missed.forEach((publication, index) => this.arrive(place, publication, first && index < missed.length - place.expected));
    } catch {
      note = 'Centrifugo gives no history of this channel, so it shows what is published from now on.';
    }
    const held = place.held ?? [];
    place.held = null;
    place.expected = 0;
    this.board.state(subscription.channel, 'subscribed', note);
    for (const publication of held) this.arrive(place, publication, false);
  }
}
