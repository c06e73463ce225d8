import type { Carrier } from './carrier.ts';

/** Several that carry traffic, as one. */
export class JointCarrier implements Carrier {
  readonly #carriers: readonly Carrier[];

  constructor(carriers: readonly Carrier[]) {
    this.#carriers = carriers;
  }

  get connections(): number {
    return this.#carriers.reduce((sum, { connections }) => sum + connections, 0);
  }

  async moveAside(): Promise<void> {
    await this.#all(async (each) => await each.moveAside());
  }

  async moveBack(): Promise<void> {
    await this.#all(async (each) => await each.moveBack());
  }

  async drain(withinMs: number): Promise<void> {
    await this.#all(async (each) => await each.drain(withinMs));
  }

  async settle(withinMs: number): Promise<void> {
    await this.#all(async (each) => await each.settle(withinMs));
  }

  async stop(): Promise<void> {
    await this.#all(async (each) => await each.stop());
  }

  /** One that fails keeps no other. Rejects as the first that did, once all are through. */
  async #all(work: (carrier: Carrier) => Promise<void>): Promise<void> {
    const done = await Promise.allSettled(this.#carriers.map(work));
    const failed = done.find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }
}
