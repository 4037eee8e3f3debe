// Reads an event stream from a response. An EventSource cannot send the header with the token.

/** Longer events are no events of the relay. */
const LONGEST = 16 << 20;

/** Takes text as it arrives, and calls `emit` for each whole event. */
export class Parser {
  private rest = '';
  private name = '';
  private data: string[] = [];

  constructor(private readonly emit: (name: string, data: string) => void) {}

  feed(text: string): void {
    const searched = this.rest.length;
    this.rest += text;
    if (this.rest.length > LONGEST) throw new Error('an event of the stream is too long');
    let from = 0;
    for (let end = this.rest.indexOf('\n', searched); end >= 0; end = this.rest.indexOf('\n', from)) {
      const line = this.rest.slice(from, this.rest[end - 1] === '\r' && end > from ? end - 1 : end);
      from = end + 1;
      this.line(line);
    }
    this.rest = this.rest.slice(from);
  }

  private line(line: string): void {
    if (line === '') {
      const [name, data] = [this.name || 'message', this.data];
      this.name = '';
      this.data = [];
      if (data.length > 0) this.emit(name, data.join('\n'));
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'event') this.name = value;
    if (field === 'data') this.data.push(value);
  }
}

/** Resolves when the stream ends. `arrived` is called for anything that comes, comments too. */
export async function readEvents(
  response: Response,
  emit: (name: string, data: string) => void,
  arrived?: () => void,
): Promise<void> {
  if (!response.body) return;
  const parser = new Parser(emit);
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      arrived?.();
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Ends the request if it was a handler that failed.
    reader.cancel().catch(() => undefined);
  }
}
