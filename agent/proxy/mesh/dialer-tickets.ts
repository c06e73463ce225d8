import type { HeldSvid } from '../../identity/identity.ts';

/** TLS session tickets by key of the pool, the newest of each, for the certificate with which they were got. */
export class TicketCache {
  readonly #max: number;
  readonly #tickets = new Map<string, { readonly chainPem: string; readonly session: Uint8Array }>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Beyond the limit the oldest is forgotten. */
  put(key: string, { chainPem }: HeldSvid, session: Uint8Array): void {
    this.#tickets.delete(key);
    this.#tickets.set(key, { chainPem, session });
    const [oldest] = this.#tickets.keys();
    if (this.#tickets.size > this.#max && oldest !== undefined) this.#tickets.delete(oldest);
  }

  /** A ticket got with this very certificate; one of before its renewal is forgotten. */
  find(key: string, { chainPem }: HeldSvid): Uint8Array | undefined {
    const ticket = this.#tickets.get(key);
    if (ticket === undefined || ticket.chainPem === chainPem) return ticket?.session;
    this.#tickets.delete(key);
    return undefined;
  }

  forget(key: string): void {
    this.#tickets.delete(key);
  }

  clear(): void {
    this.#tickets.clear();
  }
}
