// What page.js exports for arrivals.js, so that both have the same state. build.mjs checks that nothing is missing.

export { batch, signal, useSignal } from '@preact/signals';
export { useEffect, useState } from 'preact/hooks';
export { Fragment, jsx, jsxs } from 'preact/jsx-runtime';
export { ApiError, getExact, postExact, problemOf, stream } from './api';
export { clip, clock, count, plural, versionOf } from './format';
export { compact, parse } from './json';
export { marks, modules, names, now, status } from './live';
export { lookOf } from './marks';
export { offered } from './offer';
export { channelsOf } from './outcome';
export { Problem, State, useToken, VersionName } from './parts';
export { to } from './route';
