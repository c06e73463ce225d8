import type { Clock } from '../../shared/runtime/clock.ts';

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

/** Idle connections by key, the one used last first. Beyond its limits the oldest are retired. */
export class Pool<C extends Poolable> {
  readonly #limits: PoolLimits;
  readonly #clock: Clock;
  /** In the order in which they became idle, which is a Map's. */
  readonly #idle = new Map<C, Idle<C>>();
  readonly #byKey = new Map<string, C[]>();

  constructor(limits: PoolLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  get size(): number {
    return this.#idle.size;
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
    const cancelExpiry = this.#clock.schedule(this.#limits.idleMs, () => this.#drop(connection));
    this.#idle.set(connection, { key, connection, cancelExpiry });
    const ofKey = this.#byKey.get(key) ?? [];
    ofKey.push(connection);
    this.#byKey.set(key, ofKey);
    const [oldestOfKey] = ofKey;
    if (ofKey.length > this.#limits.maxIdlePerKey && oldestOfKey !== undefined) this.#drop(oldestOfKey);
    const [oldest] = this.#idle.keys();
    if (this.#idle.size > this.#limits.maxIdle && oldest !== undefined) this.#drop(oldest);
  }

  /** Forgets a connection; harmless when it is not in the pool. */
  remove(connection: C): void {
    const idle = this.#idle.get(connection);
    if (idle === undefined) return;
    idle.cancelExpiry();
    this.#idle.delete(connection);
    const rest = (this.#byKey.get(idle.key) ?? []).filter((other) => other !== connection);
    if (rest.length === 0) this.#byKey.delete(idle.key);
    else this.#byKey.set(idle.key, rest);
  }

  #last(key: string): C | undefined {
    return this.#byKey.get(key)?.at(-1);
  }

  #drop(connection: C): void {
    this.remove(connection);
    connection.retire();
  }
}
