import type { AccessRecorder } from '../../audit/access-recorder.ts';
import type { RecordBatch } from '../../audit/record-batch.ts';

interface Waiting {
  readonly batch: RecordBatch;
  readonly goOn: (isKept: boolean) => void;
}

/**
 * Holds what is allowed until its record is written: at the end of the turn of the event loop, everything of the turn with one write(2). With 50 clients some 20
 * to 40 requests come in one turn. Each waiter is one request that was read, so there are never more of them than open connections.
 */
export class RecordTurn {
  readonly #recorder: Pick<AccessRecorder, 'commit'>;
  #waiting: Waiting[] = [];

  constructor(recorder: Pick<AccessRecorder, 'commit'>) {
    this.#recorder = recorder;
  }

  /** Calls `goOn` once, never within this call. It must not throw: others wait behind it. */
  run(batch: RecordBatch, goOn: (isKept: boolean) => void): void {
    this.#waiting.push({ batch, goOn });
    if (this.#waiting.length === 1) setImmediate(() => this.#end());
  }

  #end(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#recorder.commit();
    for (const { batch, goOn } of waiting) goOn(batch.isKept);
  }
}
