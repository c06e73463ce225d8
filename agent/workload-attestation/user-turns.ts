/** How many connections of one user are looked at at once, and how many more may wait for that. */
export interface UserTurnLimits {
  readonly maxAtOnce: number;
  readonly maxWaiting: number;
}

interface Queue {
  inside: number;
  readonly waiting: (() => void)[];
}

/** Looks at so many connections of each user at a time: whoever opens thousands of them waits for himself, and nobody else does. */
export class UserTurns {
  readonly #limits: UserTurnLimits;
  readonly #queues = new Map<string, Queue>();

  constructor(limits: UserTurnLimits) {
    this.#limits = limits;
  }

  /** Runs `work` when it is the turn of a user, by whatever name; undefined, at once, when too many of his wait already. */
  async run<T>(user: string, work: () => Promise<T>): Promise<T | undefined> {
    const queue = this.#queues.get(user) ?? { inside: 0, waiting: [] };
    if (queue.inside < this.#limits.maxAtOnce) queue.inside += 1;
    else if (queue.waiting.length >= this.#limits.maxWaiting) return undefined;
    else await new Promise<void>((resolve) => queue.waiting.push(resolve));
    this.#queues.set(user, queue);
    try {
      return await work();
    } finally {
      this.#leave(user, queue);
    }
  }

  #leave(user: string, queue: Queue): void {
    const next = queue.waiting.shift();
    if (next !== undefined) return next();
    queue.inside -= 1;
    if (queue.inside === 0) this.#queues.delete(user);
  }
}
