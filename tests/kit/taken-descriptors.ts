import { closeSync, openSync } from 'node:fs';
import { descriptorReserve } from '../../agent/native/descriptor-reserve.ts';
import { readDescriptorLimit } from '../../shared/runtime/process-limits.ts';

/** Takes all file descriptors of this process but those of the reserve, until it is disposed of. */
export class TakenDescriptors implements Disposable {
  readonly #fds: number[] = [];

  constructor() {
    const end = readDescriptorLimit() - descriptorReserve().reserved;
    for (let fd = 0; fd < end;) this.#fds.push((fd = openSync('/dev/null', 'r')));
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}
