import type { Clock } from '../../../shared/runtime/clock.ts';

/** A connection as the pool sees it. */
export interface Poolable {
  /** Whether it may be used now. */
  readonly isUsable: boolean;
  /** Closes it, for it is not wanted any more. */
  retire(): void;
}

export interface PoolLimits {
  /** How long a connection waits for its next use. */
  readonly idleMs: number;
  readonly maxIdle: number;
  readonly maxIdlePerKey: number;
}

interface Idle<C> {
  readonly key: string;
  readonly connection: C;
  readonly cancelExpiry: () => void;
}

/** Idle connections by key, the one used last first, spares behind all. Beyond its limits spares are retired, then the oldest. */
export class Pool<C extends Poolable> {
  readonly #limits: PoolLimits;
  readonly #clock: Clock;
  /** In the order in which they became idle, which is a Map's. */
  readonly #idle = new Map<C, Idle<C>>();
  readonly #byKey = new Map<string, C[]>();
  /** Those of them that were never used. */
  readonly #spares = new Set<C>();

  constructor(limits: PoolLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  get size(): number {
    return this.#idle.size;
  }

  /** Whether one more would push another out. */
  isFullFor(key: string): boolean {
    const { maxIdle, maxIdlePerKey } = this.#limits;
    return this.size >= maxIdle || this.countOf(key) >= maxIdlePerKey;
  }

  /** Idle connections of the key. */
  countOf(key: string): number {
    return this.#byKey.get(key)?.length ?? 0;
  }

  /** An idle connection of the key, which leaves the pool. */
  take(key: string): C | undefined {
    for (let connection = this.#last(key); connection !== undefined; connection = this.#last(key)) {
      this.remove(connection);
      if (connection.isUsable) return connection;
      connection.retire();
    }
    return undefined;
  }

  /** A connection is idle now. */
  put(key: string, connection: C): void {
    this.#add(key, connection).push(connection);
    this.#keepToLimits(key);
  }

  /** A connection that was never used: it is taken when no other of the key is left, and gives way before all others. */
  putSpare(key: string, connection: C): void {
    this.#add(key, connection).unshift(connection);
    this.#spares.add(connection);
    this.#keepToLimits(key);
  }

  /** Forgets a connection; harmless when it is not in the pool. */
  remove(connection: C): void {
    const idle = this.#idle.get(connection);
    if (idle === undefined) return;
    idle.cancelExpiry();
    this.#idle.delete(connection);
    this.#spares.delete(connection);
    const ofKey = this.#byKey.get(idle.key) ?? [];
    // Mostly the last.
    const at = ofKey.lastIndexOf(connection);
    if (at >= 0) ofKey.splice(at, 1);
    if (ofKey.length === 0) this.#byKey.delete(idle.key);
  }

  /** The connections of its key, to be put among. */
  #add(key: string, connection: C): C[] {
    const cancelExpiry = this.#clock.schedule(this.#limits.idleMs, () => this.#drop(connection));
    this.#idle.set(connection, { key, connection, cancelExpiry });
    const ofKey = this.#byKey.get(key) ?? [];
    this.#byKey.set(key, ofKey);
    return ofKey;
  }

  #keepToLimits(key: string): void {
    const ofKey = this.#byKey.get(key) ?? [];
    const [oldestOfKey] = ofKey;
    if (ofKey.length > this.#limits.maxIdlePerKey && oldestOfKey !== undefined) this.#drop(oldestOfKey);
    const [oldest] = this.#spares.size > 0 ? this.#spares : this.#idle.keys();
    if (this.#idle.size > this.#limits.maxIdle && oldest !== undefined) this.#drop(oldest);
  }

  #last(key: string): C | undefined {
    return this.#byKey.get(key)?.at(-1);
  }

  #drop(connection: C): void {
    this.remove(connection);
    connection.retire();
  }
}
