/** Records that go to the spool with one write: it keeps all of them or none. What they stand for waits until they are kept. */
export class RecordBatch {
  #isKept = false;

  /** Whether its records are in the spool. */
  get isKept(): boolean {
    return this.#isKept;
  }

  /** The write is done. */
  keep(): void {
    this.#isKept = true;
  }
}
