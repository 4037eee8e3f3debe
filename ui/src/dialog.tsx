// Dialogs: the browser keeps the focus inside, and gives it back afterwards.

import { signal, useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useId, useLayoutEffect, useRef } from 'preact/hooks';
import { asked, setToken } from './api';

interface DialogProps {
  title: string;
  close: () => void;
  children: ComponentChildren;
}

export function Dialog({ title, close, children }: DialogProps) {
  const place = useRef<HTMLDialogElement>(null);
  const id = useId();
  // At once, so that nobody sees a page without the dialog and without the focus.
  useLayoutEffect(() => {
    const dialog = place.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      // The browser does that too, but not in each of its versions when the dialog is removed at once.
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  const cancelled = (event: Event) => {
    event.preventDefault();
    close();
  };
  // The browser may close it without asking. Its event also comes after the dialog is gone.
  const closed = () => {
    if (place.current) close();
  };
  return (
    <dialog ref={place} aria-labelledby={id} onCancel={cancelled} onClose={closed}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

interface Question {
  title: string;
  text: ComponentChildren;
  /** What the button says. */
  action: string;
  danger?: boolean;
}

const question = signal<(Question & { answer: (yes: boolean) => void }) | null>(null);

/** Resolves to true if the person agrees. */
export function confirm(asking: Question): Promise<boolean> {
  question.peek()?.answer(false);
  return new Promise((resolve) => {
    question.value = {
      ...asking,
      answer: (yes) => {
        question.value = null;
        resolve(yes);
      },
    };
  });
}

/** Holds the dialogs that any part of the page may open. */
export function Dialogs() {
  return (
    <>
      {question.value && <Confirm {...question.value} />}
      {asked.value && <TokenDialog text={asked.value.text} answer={asked.value.answer} />}
    </>
  );
}

function Confirm({ title, text, action, danger, answer }: Question & { answer: (yes: boolean) => void }) {
  return (
    <Dialog title={title} close={() => answer(false)}>
      <div class="words">{text}</div>
      <div class="buttons">
        <button type="button" onClick={() => answer(false)}>
          Cancel
        </button>
        <button type="button" class={danger ? 'danger' : 'primary'} onClick={() => answer(true)}>
          {action}
        </button>
      </div>
    </Dialog>
  );
}

function TokenDialog({ text, answer }: { text: string; answer: (given: boolean) => void }) {
  const entered = useSignal('');
  const submit = (event: Event) => {
    event.preventDefault();
    const value = entered.value.trim();
    if (!value) return;
    setToken(value);
    answer(true);
  };
  return (
    <Dialog title="This needs the relay’s token" close={() => answer(false)}>
      <form onSubmit={submit}>
        <p class="words">{text}</p>
        <label>
          Token
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            value={entered.value}
            onInput={(event) => (entered.value = event.currentTarget.value)}
          />
        </label>
        <p class="muted">This tab keeps the token until you close it or choose “Forget the token”.</p>
        <div class="buttons">
          <button type="button" onClick={() => answer(false)}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Use the token
          </button>
        </div>
      </form>
    </Dialog>
  );
}
