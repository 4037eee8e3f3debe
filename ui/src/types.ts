// What the admin API sends and takes, as the page uses it. The contract is the relay's OpenAPI document.

export interface Finding {
  kind: string;
  module: string | null;
  /** A sentence, without the module's name. */
  text: string;
}

export interface Status {
  version: string;
  started: string;
  ready: boolean;
  obstacles: Finding[];
  warnings: Finding[];
  nats?: { servers?: string[]; connected: boolean; server: string | null; trouble: string | null };
  centrifugo: { trouble: string | null; endpoints?: string[] };
  memory: { used: number; limit: number } | null;
  modules: ModuleStatus[];
}

export interface ModuleStatus {
  name: string;
  state: string;
  reason: string | null;
  sha256: string | null;
  toml_sha256: string | null;
  /** When the state began. */
  since: string;
  running_since: string | null;
  stream: string | null;
  consumer: string | null;
  received: number;
  transformed: number;
  dropped: number;
  expired: number;
  rejected: number;
  published: number;
  conflated: number;
  missed: number;
  retried: number;
  rolled_back: RolledBack | null;
  rollbacks: number;
  swaps: number;
  refused_swaps: number;
  last_refusal: string | null;
  lag_messages: number | null;
  lag_seconds: number | null;
  backlog: { pending: number; ack_pending: number; paused: boolean; stalled_seconds: number } | null;
  window_messages: number;
  window_bytes: number;
}

export interface RolledBack {
  sha256: string;
  toml_sha256: string;
  at: string;
  reason: string;
}

export const FIELDS = [
  'received',
  'published',
  'rejected',
  'lag_messages',
  'lag_seconds',
  'latency_p50_ms',
  'latency_p99_ms',
] as const;
export type Field = (typeof FIELDS)[number];
/** One second of a module. Rates are per second; null is not known. */
export type Sample = Record<Field, number | null>;

export interface Mark {
  id: number;
  /** Seconds since 1970. */
  time: number;
  kind: string;
  module: string | null;
  text: string;
}

export interface SampleEvent {
  time: number;
  status: Status;
  samples: Record<string, Sample>;
  marks: Mark[];
}

export interface History {
  step_seconds: number;
  times: number[];
  modules: ({ name: string } & Record<Field, (number | null)[]>)[];
  marks: Mark[];
}

export interface Version {
  /** `WASM-TOML`, the first 12 digits of each hash. */
  version: string;
  sha256: string;
  toml_sha256: string;
  since: string;
  running: boolean;
  probe: string | null;
  trial: string | null;
}

export interface Versions {
  module: string;
  versions: Version[];
  rolled_back: RolledBack | null;
  last_refusal: string | null;
}

/** A line as `slipring try` reads it. A message from Redis has an `id` instead of a `sequence`. */
export interface TryMessage {
  subject: string;
  headers?: Record<string, string | string[]>;
  data?: unknown;
  payload?: string;
  payload_base64?: string;
  stream?: string;
  sequence?: number | string;
  id?: string;
  timestamp?: unknown;
}

export interface Publication {
  channels?: string[];
  data?: unknown;
  binary_base64?: string;
  /** Only the beginning of the data is here, of JSON as a text. */
  truncated?: boolean;
  version?: unknown;
  [more: string]: unknown;
}

export interface Outcome {
  version?: string | null;
  micros?: number | null;
  outcome: string;
  publications?: Publication[];
  code?: string | null;
  channel?: string | null;
  reason?: string | null;
}

export interface Diff {
  module: string;
  from: string;
  to: string;
  messages: number;
  same: number;
  different: { message: TryMessage; from: Outcome; to: Outcome }[];
}

export interface Group {
  module: string;
  stage: string;
  code: string;
  reason: string;
  count: number;
  first: string;
  last: string;
}

export interface Letter {
  number: number;
  stored: string;
  module: string;
  stage: string;
  code: string;
  reason: string;
  channel: string | null;
  /** Null, like the next two, if no relay stored the letter. */
  subject: string | null;
  stream: string | null;
  sequence: number | string | null;
  size: number;
  sha256: string | null;
}

export interface DeadLetters {
  total: number;
  groups: Group[];
  /** Letters that are in none of these groups. */
  ungrouped?: number;
  letters: Letter[];
  next: number | null;
}

export interface FullLetter extends Letter {
  headers: [string, string][];
  payload: string | null;
  payload_base64: string | null;
  /** Only the first part of the payload is here. */
  truncated?: boolean;
  now: Outcome | null;
  problem: string | null;
}

export type Selection =
  | { numbers: number[] }
  | { all: true }
  | { module?: string; stage?: string; code?: string; reason?: string };

export interface Progress {
  done: number;
  of: number;
  failed: number;
  /** Why nothing is published at the moment. */
  paused?: string | null;
}

export interface End {
  ok: boolean;
  text: string;
  failures?: { number: number; reason: string }[];
}

export interface Arrivals {
  /** Where browsers reach Centrifugo, or null if nobody has said so. */
  websocket: string | null;
  /** What each module reads; an empty list is all of its stream. Some may be missing. */
  subjects?: Record<string, string[]>;
}

export interface Tapped extends Outcome {
  time: number;
  module: string;
  subject: string;
  stream?: string;
  sequence: number | string;
  timestamp?: string;
  headers: Record<string, string | string[]>;
  /** How many were left out. */
  more_headers?: number;
  payload: string | null;
  payload_base64: string | null;
  size: number;
  truncated: boolean;
  more_publications?: number;
  skipped: number;
}
