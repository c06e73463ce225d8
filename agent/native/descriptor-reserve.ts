import { readDescriptorLimit } from '../../shared/runtime/process-limits.ts';

/** Of the file descriptors that the process may have, this part is kept back, and no more than so many. */
const RESERVED_PART = 0.25;
const MAX_RESERVED = 64;

/**
 * File descriptors that no connection of the mesh may take: identities are renewed, rules repaired, decisions recorded and questions of the operator answered with
 * them, when connections have taken all others. The kernel gives the lowest free number, so the number tells how many are open.
 */
export class DescriptorReserve {
  readonly reserved: number;
  readonly #limit: number;
  #refused = 0;
  #onRefused = (): void => undefined;

  /** How many descriptors the process may have; Infinity where nothing limits it. */
  constructor(limit: number) {
    this.#limit = limit;
    this.reserved = Math.min(MAX_RESERVED, Math.floor(limit * RESERVED_PART));
  }

  /** How many connections were refused. */
  get refused(): number {
    return this.#refused;
  }

  /** Whether a connection may keep this descriptor. */
  admits(fd: number): boolean {
    if (fd < this.#limit - this.reserved) return true;
    this.#refused += 1;
    this.#onRefused();
    return false;
  }

  /** Calls `listener` for each one that is refused. There is one listener. */
  watch(listener: () => void): void {
    this.#onRefused = listener;
  }
}

let reserve: DescriptorReserve | undefined;

/** That of this process: it has one table of descriptors. */
export function descriptorReserve(): DescriptorReserve {
  reserve ??= new DescriptorReserve(readDescriptorLimit());
  return reserve;
}
