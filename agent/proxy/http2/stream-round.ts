import type { Http2Streams, OpenStream } from './streams.ts';

type Entry = readonly [streamId: number, stream: OpenStream];

/** Goes once over the streams of a connection that are open when it begins, and may be sent round again from where it stands. */
export class Http2StreamRound {
  readonly #streams: Http2Streams;
  #entries: readonly Entry[];
  #next = 0;

  constructor(streams: Http2Streams) {
    this.#streams = streams;
    this.#entries = streams.open;
  }

  get count(): number {
    return this.#entries.length;
  }

  get isDone(): boolean {
    return this.#next >= this.#entries.length;
  }

  /** Those that were not passed yet come first: whatever happens how often, each has its turn. */
  again(): void {
    const { open } = this.#streams;
    const [firstId = 0] = this.#entries[this.#next] ?? [];
    const first = open.findIndex(([streamId]) => streamId >= firstId);
    this.#entries = first <= 0 ? open : [...open.slice(first), ...open.slice(0, first)];
    this.#next = 0;
  }

  /** The next one; undefined where it has ended meanwhile. */
  take(): Entry | undefined {
    const entry = this.#entries[this.#next];
    this.#next += 1;
    return entry !== undefined && this.#streams.find(entry[0]) === entry[1] ? entry : undefined;
  }
}
