// Loads the view of arrivals, with Centrifugo's client, when somebody opens it.

import { type Signal, useSignal } from '@preact/signals';
import type { ComponentType } from 'preact';
import { useEffect } from 'preact/hooks';
import { ApiError } from './api';
import { Problem } from './parts';

export function LazyArrivals() {
  const view: Signal<ComponentType | null> = useSignal<ComponentType | null>(null);
  const problem = useSignal<ApiError | null>(null);
  const load = () => {
    problem.value = null;
    import('./arrivals').then(
      ({ ArrivalsView }) => (view.value = ArrivalsView),
      () => (problem.value = new ApiError(0, 'This part of the page cannot be loaded. Load the page again.')),
    );
  };
  useEffect(load, []);
  const View = view.value;
  return (
    <>
      <h1 tabIndex={-1}>Arrivals</h1>
      {problem.value && <Problem problem={problem.value} />}
      {View ? <View /> : <p class="muted">Loading…</p>}
    </>
  );
}
