import { describeError } from '../errors/errors.ts';
import type { Log } from './log.ts';

/** What a running part gives back: how to stop it. Stopping twice is harmless. */
export interface Running {
  stop(): Promise<void>;
}

/** Collects running parts as they start and stops them in reverse. A part that fails to stop is logged and does not keep the others up. */
export class Shutdown implements Running {
  readonly #log: Log;
  readonly #parts: { readonly name: string; readonly stop: () => Promise<void> | void }[] = [];

  constructor(log: Log) {
    this.#log = log;
  }

  add(name: string, stop: () => Promise<void> | void): void {
    this.#parts.push({ name, stop });
  }

  async stop(): Promise<void> {
    for (let part = this.#parts.pop(); part !== undefined; part = this.#parts.pop()) {
      try {
        await part.stop();
      } catch (error) {
        this.#log.error('stop_failed', { part: part.name, error: describeError(error) });
      }
    }
  }
}
