import { libc } from './libc.ts';

/** Descriptors that are closed together. */
export class Descriptors implements Disposable {
  readonly #fds: number[] = [];

  add(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) libc().close(fd);
  }
}
