import { describeError, PicketError, toPicketError } from '../../shared/errors/errors.ts';
import { MAX_SYNC_LINE_BYTES, syncMessage, type SyncMessage } from '../../shared/protocol/sync.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { ServerResponse } from './connection.ts';
import { readLines } from './read-lines.ts';
import type { SyncPosition, SyncUpdate } from './sync-state.ts';
import { WakeUp } from './wake-up.ts';

export interface SyncStreamOptions {
  /** Opens the stream, resumed at a position or from the beginning. Throws when the server refuses or cannot be reached. */
  readonly open: (resumeFrom: SyncPosition | undefined) => Promise<ServerResponse>;
  /** Where to resume. */
  readonly position: () => SyncPosition | undefined;
  /** Takes a message. Throws for one that cannot be: the stream is then opened anew from the beginning. */
  readonly apply: (update: SyncUpdate) => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

/** A server pings every ten seconds: after this long without a word the connection is dead. */
export const MAX_SILENCE_MS = 30_000;
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 30_000;
/** A stream that lived this long was a good one: its end is answered quickly. */
const GOOD_LIFE_MS = 5000;

/** Keeps the stream of changes open: through the end of a connection, through silence, through nonsense. */
export class SyncStream implements Running {
  readonly #options: SyncStreamOptions;
  readonly #backoff: Backoff;
  readonly #wakeUp: WakeUp;
  #current: ServerResponse | undefined;
  #isSnapshotWanted = false;
  #isRedialled = false;
  #isStopped = false;
  #isLive = false;
  #lastHeardMs: number | undefined;
  #failure: string | undefined;
  #run: Promise<void> | undefined;

  constructor(options: SyncStreamOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ firstMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS, random: options.random });
    this.#wakeUp = new WakeUp(options.clock);
  }

  /** Whether the stream is open and what was said on it so far is applied. */
  get isLive(): boolean {
    return this.#isLive;
  }

  /** When the server was last heard, pings included: milliseconds since 1970. */
  get lastHeardMs(): number | undefined {
    return this.#lastHeardMs;
  }

  /** Why the stream is down: undefined while it is live, and before the first attempt. */
  get failure(): string | undefined {
    return this.#failure;
  }

  start(): void {
    this.#run ??= this.#keepOpen();
  }

  /** Opens the stream anew at once: on a new connection, with new credentials. */
  redial(): void {
    this.#isRedialled = true;
    this.#backoff.reset();
    this.#current?.cancel();
    this.#wakeUp.wake();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#current?.cancel();
    this.#wakeUp.wake();
    await this.#run;
  }

  async #keepOpen(): Promise<void> {
    while (!this.#isStopped) {
      this.#isRedialled = false;
      const startedMs = this.#options.clock.monotonicMs();
      const error = await this.#follow().then(
        () => undefined,
        (caught: unknown) => caught,
      );
      this.#isLive = false;
      this.#current = undefined;
      if (this.#isStopped) return;
      if (this.#isRedialled) continue;
      if (this.#options.clock.monotonicMs() - startedMs >= GOOD_LIFE_MS) this.#backoff.reset();
      const delayMs = this.#backoff.nextMs();
      this.#failure = describeError(error ?? 'the server ended the stream');
      this.#options.log.warn('sync_interrupted', { error: this.#failure, retry_ms: Math.round(delayMs) });
      await this.#wakeUp.sleep(delayMs);
    }
  }

  /** One stream from its opening to its end. */
  async #follow(): Promise<void> {
    const { open, position } = this.#options;
    const response = await open(this.#isSnapshotWanted ? undefined : position());
    this.#current = response;
    if (this.#isStopped || this.#isRedialled) return response.cancel();
    const silence = this.#watchSilence(response);
    try {
      for await (const line of readLines(response.body, MAX_SYNC_LINE_BYTES)) {
        silence.heard();
        this.#take(line);
      }
    } catch (error) {
      // The same line would come again from there.
      if (toPicketError(error).reason === 'line_too_long') this.#isSnapshotWanted = true;
      throw error;
    } finally {
      silence.end();
      response.cancel();
    }
    if (silence.isBroken())
      throw new PicketError('unavailable', 'server_silent', `The server was silent for ${MAX_SILENCE_MS} ms`);
  }

  #take(line: string): void {
    const { apply, clock, log, position } = this.#options;
    // Until it is taken: what cannot be taken is answered by asking for everything.
    this.#isSnapshotWanted = true;
    const message = parseMessage(line);
    if (message.kind !== 'ping') apply(message);
    this.#isSnapshotWanted = false;
    this.#lastHeardMs = clock.nowMs();
    if (!this.#isLive) log.info('sync_live', { ...position() });
    this.#isLive = true;
    this.#failure = undefined;
  }

  #watchSilence(response: ServerResponse): { heard(): void; end(): void; isBroken(): boolean } {
    let isBroken = false;
    const begin = (): (() => void) =>
      this.#options.clock.schedule(MAX_SILENCE_MS, () => {
        isBroken = true;
        response.cancel();
      });
    let cancel = begin();
    return {
      heard: () => {
        cancel();
        cancel = begin();
      },
      end: () => cancel(),
      isBroken: () => isBroken,
    };
  }
}

function parseMessage(line: string): SyncMessage {
  try {
    return syncMessage.parse(JSON.parse(line));
  } catch (cause) {
    throw new PicketError('unavailable', 'sync_refused', 'Cannot read what the server sent', { cause });
  }
}
