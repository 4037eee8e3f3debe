// Tells whether an element is in view, so that nothing is drawn that nobody sees.

import { type ReadonlySignal, useSignal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useEffect } from 'preact/hooks';

const watched = new Map<Element, (visible: boolean) => void>();
let observer: IntersectionObserver | null = null;

function watch(element: Element, seen: (visible: boolean) => void): () => void {
  observer ??= new IntersectionObserver(
    (entries) => {
      for (const entry of entries) watched.get(entry.target)?.(entry.isIntersecting);
    },
    { rootMargin: '120px' },
  );
  watched.set(element, seen);
  observer.observe(element);
  return () => {
    watched.delete(element);
    observer?.unobserve(element);
  };
}

export function useVisible(place: RefObject<Element | null>): ReadonlySignal<boolean> {
  const visible = useSignal(false);
  useEffect(() => (place.current ? watch(place.current, (seen) => (visible.value = seen)) : undefined), []);
  return visible;
}
