import { toPicketError } from '../../shared/errors/errors.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { KeySource } from './key-source.ts';
import { parseKeySet, type IssuerKey, type KeySet } from './key-set.ts';
import type { IssuerStatus } from './users.ts';

export interface IssuerKeysOptions {
  /** Of the issuer. */
  readonly name: string;
  readonly source: KeySource;
  /** How often the keys are read again. */
  readonly refreshMs: number;
  /** Keys that were read longer ago than this count no more. */
  readonly maxAgeMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** Other keys are in force: what was verified by the old ones is to be verified again. */
  readonly onChange: () => void;
}

/** A key that nobody knows makes them be read again, however many such tokens come, only so often. */
const UNKNOWN_KEY_PAUSE_MS = 10_000;
const RETRY_FIRST_MS = 1000;

/**
 * The keys of one issuer, read in the background: at start, every `refreshMs`, and when a token names a key that is not among them. No request waits for that.
 * While they cannot be read the old ones hold for `maxAgeMs`, then none.
 */
export class IssuerKeys {
  readonly #options: IssuerKeysOptions;
  readonly #backoff: Backoff;
  #keys: KeySet = new Map();
  #text = '';
  #readAtMs: number | undefined;
  /** By the monotonic clock. */
  #readTickMs = -Infinity;
  #askedTickMs = -Infinity;
  #failure: string | undefined;
  #isReading = false;
  #isStopped = false;
  #cancel = (): void => undefined;

  constructor(options: IssuerKeysOptions) {
    this.#options = options;
    const maxMs = Math.max(RETRY_FIRST_MS, Math.min(60_000, options.refreshMs));
    this.#backoff = new Backoff({ firstMs: RETRY_FIRST_MS, maxMs, random: options.random });
  }

  get status(): IssuerStatus {
    const { name } = this.#options;
    return { name, keys: this.#current.size, readAtMs: this.#readAtMs, failure: this.#failure };
  }

  /** Whether there is any key to verify with. */
  get areThere(): boolean {
    return this.#current.size > 0;
  }

  /** The key of that name. One that is not known is asked for, for the next time. */
  find(keyId: string): IssuerKey | undefined {
    const key = this.#current.get(keyId);
    if (key === undefined) this.#askSoon();
    return key;
  }

  /** Reads them for the first time; settled once that came to something, good or not. */
  async start(): Promise<void> {
    await this.#read();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  get #current(): KeySet {
    const isFresh = this.#options.clock.monotonicMs() - this.#readTickMs <= this.#options.maxAgeMs;
    return isFresh ? this.#keys : NO_KEYS;
  }

  #askSoon(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#isReading || nowMs - this.#askedTickMs < UNKNOWN_KEY_PAUSE_MS) return;
    void this.#read();
  }

  async #read(): Promise<void> {
    const { source, clock, log, name } = this.#options;
    if (this.#isReading || this.#isStopped) return;
    this.#cancel();
    this.#isReading = true;
    this.#askedTickMs = clock.monotonicMs();
    try {
      this.#take(await source.read());
      this.#backoff.reset();
      this.#failure = undefined;
    } catch (error) {
      this.#failure = toPicketError(error).message;
      log.warn('user_keys_not_read', { issuer: name, error });
    }
    this.#isReading = false;
    if (this.#isStopped) return;
    const delayMs = this.#failure === undefined ? this.#options.refreshMs : this.#backoff.nextMs();
    this.#cancel = clock.schedule(delayMs, () => void this.#read());
  }

  #take(text: string): void {
    const { clock, log, name, onChange } = this.#options;
    const isNew = text !== this.#text;
    if (isNew) this.#keys = parseKeySet(text);
    this.#text = text;
    this.#readTickMs = clock.monotonicMs();
    this.#readAtMs = clock.nowMs();
    if (!isNew) return;
    log.info('user_keys_in_force', { issuer: name, keys: [...this.#keys.keys()] });
    onChange();
  }
}

const NO_KEYS: KeySet = new Map();
