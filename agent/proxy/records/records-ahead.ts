import type { RecordBatch } from '../../audit/record-batch.ts';

/** The records of what one relay is about to send on: all of them are written before the first byte goes. */
export class RecordsAhead {
  readonly #commit: () => void;
  #batch: RecordBatch | undefined;
  #isLost = false;

  /** `commit` writes what was judged ahead. */
  constructor(commit: () => void) {
    this.#commit = commit;
  }

  /** Something was allowed whose record is in this batch. */
  note(batch: RecordBatch | undefined): void {
    if (batch === this.#batch || batch === undefined) return;
    this.#look();
    this.#batch = batch;
  }

  /** Writes them. False when any of them was not kept: nothing may be sent on then, ever. */
  write(): boolean {
    if (this.#batch !== undefined) this.#commit();
    this.#look();
    return !this.#isLost;
  }

  #look(): void {
    if (this.#batch?.isKept === false) this.#isLost = true;
    this.#batch = undefined;
  }
}
