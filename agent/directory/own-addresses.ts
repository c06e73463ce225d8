import { networkInterfaces } from 'node:os';
import type { Clock } from '../../shared/runtime/clock.ts';
import { canonicalAddress, isHostAddress } from './host-address.ts';

/** How long a look at the interfaces counts. */
const FRESH_MS = 2000;

/** The addresses of this host's interfaces, looked up again when the last look is some seconds old. */
export class OwnAddresses {
  readonly #clock: Clock;
  #addresses: ReadonlySet<string> = new Set();
  #lookedMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  has(address: string): boolean {
    return this.#current().has(address);
  }

  /** Those that can be this host's alone: no loopback, no link-local. */
  claimable(): readonly string[] {
    return [...this.#current()].filter(isHostAddress).toSorted();
  }

  #current(): ReadonlySet<string> {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lookedMs < FRESH_MS) return this.#addresses;
    this.#lookedMs = nowMs;
    this.#addresses = new Set(listOwnAddresses());
    return this.#addresses;
  }
}

/** The addresses of this host's interfaces that are up, loopback and link-local ones among them. */
export function listOwnAddresses(): readonly string[] {
  return Object.values(networkInterfaces())
    .flatMap((interfaces) => interfaces ?? [])
    .map(({ address }) => canonicalAddress(address))
    .filter((address) => address !== undefined);
}
