import type { Clock } from '../../shared/runtime/clock.ts';
import type { MovableSpool } from '../audit/movable-spool.ts';
import { ShippedSpool } from '../audit/shipped-spool.ts';
import type { Shipper } from '../audit/shipper.ts';
import type { Spool } from '../audit/spool.ts';
import { waitWithin, type Carrier } from '../handover/carrier.ts';
import type { HostProxy } from '../proxy/proxy.ts';

/** What carries traffic in this process. */
export type Carried = Pick<HostProxy, 'connections' | 'drain'>;

/** The data path of this very process as one that another takes over from. Records are shipped from the start. */
export class CarrierHere implements Carrier {
  readonly #carried: readonly Carried[];
  readonly #spool: MovableSpool;
  readonly #shipped: ShippedSpool;
  readonly #clock: Clock;

  constructor(options: {
    readonly carried: readonly Carried[];
    readonly spool: MovableSpool;
    /** Starts to ship what a spool holds. */
    readonly ship: (spool: Spool) => Shipper;
    readonly clock: Clock;
  }) {
    this.#carried = options.carried;
    this.#spool = options.spool;
    this.#shipped = new ShippedSpool(options.spool, options.ship);
    this.#clock = options.clock;
  }

  get connections(): number {
    return this.#carried.reduce((sum, { connections }) => sum + connections, 0);
  }

  async moveAside(): Promise<void> {
    await this.#shipped.moveAside();
  }

  async moveBack(): Promise<void> {
    await this.#shipped.moveBack();
  }

  async drain(withinMs: number): Promise<void> {
    await Promise.all(this.#carried.map(async (each) => await each.drain(withinMs)));
  }

  async settle(withinMs: number): Promise<void> {
    await waitWithin({ withinMs, clock: this.#clock }, () => this.#spool.status.depth === 0);
  }

  async stop(): Promise<void> {
    await this.#shipped.stop();
  }
}
