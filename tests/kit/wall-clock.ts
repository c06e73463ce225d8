import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's libfaketime. */
const LIBRARY = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1';

/** The wall clock of programs that are started with `env`: a test sets it while they run, and their monotonic clock goes on as it is. */
export class WallClock {
  /** For the programs whose clock this is. */
  readonly env: Readonly<Record<string, string>>;
  readonly #file: string;

  constructor(folder: string, name: string) {
    this.#file = join(folder, `${name}.clock`);
    this.set(0);
    this.env = {
      LD_PRELOAD: LIBRARY,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    };
  }

  /** Sets the clock so many seconds ahead of the true time; negative: behind. */
  set(secondsAhead: number): void {
    const next = `${this.#file}.next`;
    writeFileSync(next, `${secondsAhead < 0 ? '' : '+'}${secondsAhead}\n`);
    renameSync(next, this.#file);
  }
}
