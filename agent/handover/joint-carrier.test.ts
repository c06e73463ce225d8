import { expect, test } from 'bun:test';
import { failureOf } from '../../shared/errors/errors.ts';
import type { Carrier } from './carrier.ts';
import { JointCarrier } from './joint-carrier.ts';

class NotedCarrier implements Carrier {
  readonly done: string[] = [];
  readonly connections: number;
  readonly #fails: boolean;

  constructor(connections: number, fails = false) {
    this.connections = connections;
    this.#fails = fails;
  }

  readonly moveAside = async (): Promise<void> => await this.#note('aside');
  readonly moveBack = async (): Promise<void> => await this.#note('back');
  readonly drain = async (withinMs: number): Promise<void> => await this.#note(`drain ${withinMs}`);
  readonly settle = async (withinMs: number): Promise<void> => await this.#note(`settle ${withinMs}`);
  readonly stop = async (): Promise<void> => await this.#note('stop');

  async #note(what: string): Promise<void> {
    this.done.push(what);
    if (this.#fails) throw new Error(`no ${what}`);
    await Promise.resolve();
  }
}

test('JointCarrier has all do each step, adds up what they carry, and rejects where one of them did', async () => {
  const carriers = [new NotedCarrier(2), new NotedCarrier(3, true), new NotedCarrier(0)];
  const joint = new JointCarrier(carriers);
  expect(joint.connections).toBe(5);
  for (const step of [
    async () => await joint.moveAside(),
    async () => await joint.moveBack(),
    async () => await joint.drain(7),
    async () => await joint.settle(8),
    async () => await joint.stop(),
  ])
    expect(await failureOf(step())).toBeInstanceOf(Error);
  for (const { done } of carriers) expect(done).toEqual(['aside', 'back', 'drain 7', 'settle 8', 'stop']);
});
