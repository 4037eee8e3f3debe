// The frame around the views.

import 'uplot/dist/uPlot.min.css';
import './page.css';

import { effect } from '@preact/signals';
import { render } from 'preact';
import { askForToken, setToken, token } from './api';
import { LazyArrivals } from './lazy';
import { followOffer, offered } from './offer';
import { DeadLettersView } from './dead-letters';
import { Dialogs } from './dialog';
import { focusTitle } from './focus';
import { clock } from './format';
import { ready, run, silentSince, status, trouble } from './live';
import { ModuleView } from './module';
import { Overview } from './overview';
import { follow, route, to, type View } from './route';
import { TapView } from './tap';
import { applyTheme, nextTheme, theme } from './theme';
import { TryView } from './try';

export * from './host';

function App() {
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <Header />
      <Banner />
      <main id="main" tabIndex={-1}>
        <Content />
      </main>
      <Dialogs />
    </>
  );
}

function skip(event: Event): void {
  // The hash belongs to the view.
  event.preventDefault();
  document.getElementById('main')?.focus();
}

function Content() {
  const { view, name, query } = route.value;
  switch (view) {
    case 'overview':
      return <Overview />;
    case 'module':
      return <ModuleView key={name} name={name} />;
    case 'dead-letters':
      return <DeadLettersView key={query.toString()} query={query} />;
    case 'tap':
      return <TapView key={query.toString()} query={query} />;
    case 'try':
      return <TryView query={query} />;
    case 'arrivals':
      return <LazyArrivals />;
    default:
      return (
        <section class="panel">
          <h1>There is no such view</h1>
          <p>
            <a href={to.overview()}>Go to the overview</a>
          </p>
        </section>
      );
  }
}

const LINKS: readonly [View, string, string][] = [
  ['overview', 'Overview', to.overview()],
  ['dead-letters', 'Dead letters', to.deadLetters()],
  ['tap', 'Tap', to.tap()],
  ['try', 'Playground', to.try()],
  ['arrivals', 'Arrivals', to.arrivals()],
];

function Header() {
  const { view } = route.value;
  return (
    <header>
      <a class="brand" href={to.overview()}>
        Slipring
      </a>
      <Readiness />
      <nav aria-label="Views">
        {LINKS.filter(([name]) => name !== 'arrivals' || offered.value?.websocket).map(([name, text, address]) => (
          <a key={name} href={to.same(address)} aria-current={view === name ? 'page' : undefined}>
            {text}
          </a>
        ))}
      </nav>
      <div class="tools">
        {token.value !== '' && (
          <button type="button" class="plain" onClick={() => setToken('')}>
            Forget the token
          </button>
        )}
        <button type="button" class="plain" onClick={nextTheme}>
          Theme: {theme.value}
        </button>
      </div>
    </header>
  );
}

function Readiness() {
  if (ready.value === null) return <span class="badge tone-muted">…</span>;
  const [sign, tone, word] = ready.value ? ['●', 'ok', 'Ready'] : ['✕', 'bad', 'Not ready'];
  return (
    <span class={`badge tone-${tone}`} role="status">
      <span aria-hidden="true">{sign}</span> {word}
    </span>
  );
}

function Banner() {
  const problem = trouble.value;
  const since = silentSince.value;
  if (problem?.needsToken) {
    return (
      <div class="banner tone-warn" role="alert">
        <span>The relay shows its status only with a token.</span>
        <button type="button" onClick={() => askForToken(problem.message)}>
          Enter the token
        </button>
      </div>
    );
  }
  if (since === null) return null;
  return (
    <div class="banner tone-bad" role="alert">
      <span>
        No answer from the relay since {clock(since)}.{' '}
        {status.value ? 'These numbers are out of date. ' : ''}Reconnecting …
        {problem && ` The relay said: ${problem.message}`}
      </span>
    </div>
  );
}

applyTheme();
effect(() => {
  const word = silentSince.value !== null ? 'No answer' : ready.value === null ? '' : ready.value ? 'Ready' : 'Not ready';
  document.title = word ? `${word} – Slipring` : 'Slipring';
});
follow(() => {
  scrollTo(0, 0);
  // The new view is drawn a moment later.
  setTimeout(focusTitle);
}, setToken);
const root = document.getElementById('app');
if (root) {
  root.textContent = '';
  render(<App />, root);
}
followOffer();
void run();
