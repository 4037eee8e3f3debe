// Puts the focus where a person can go on, after what had it has gone.

export function rescueFocus(): void {
  // The view is drawn a moment later.
  setTimeout(() => {
    if (document.activeElement === document.body) focusTitle();
  }, 50);
}

export function focusTitle(): void {
  document.querySelector<HTMLElement>('main h1')?.focus({ preventScroll: true });
}
