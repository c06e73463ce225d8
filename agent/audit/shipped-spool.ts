import type { MovableSpool } from './movable-spool.ts';
import type { Shipper } from './shipper.ts';
import type { Spool } from './spool.ts';

/** A spool that makes way for another process, with what ships the records in it. One at a time ships, and only what is in the place where records go now. */
export class ShippedSpool {
  readonly #spool: MovableSpool;
  readonly #ship: (spool: Spool) => Shipper;
  #shipper: Shipper;

  /** `ship` starts to ship what a spool holds. */
  constructor(spool: MovableSpool, ship: (spool: Spool) => Shipper) {
    this.#spool = spool;
    this.#ship = ship;
    this.#shipper = ship(spool.current);
  }

  /** Throws as `MovableSpool.moveAside`, and ships on where it is. */
  async moveAside(): Promise<void> {
    await this.#move(async () => await this.#spool.moveAside());
  }

  /** Throws as `MovableSpool.moveBack`, and ships on where it is. */
  async moveBack(): Promise<void> {
    await this.#move(async () => await this.#spool.moveBack());
  }

  /** Ends the shipping; the spool is the owner's to close. */
  async stop(): Promise<void> {
    await this.#shipper.stop();
  }

  async #move(work: () => Promise<void>): Promise<void> {
    this.#shipper.abandon();
    try {
      await work();
    } finally {
      this.#shipper = this.#ship(this.#spool.current);
    }
  }
}
