import type { FlowKey } from './datagram-gate.ts';
import type { Member } from './flow-sets.ts';

/** What may be forwarded between two ends. */
interface Forwarded {
  /** For whom, and when it ends by itself for him. */
  readonly users: Map<number, number>;
  readonly members: readonly Member[];
}

/** What the host's rules forward of one namespace. They cannot tell users of it apart: what is between two ends is there as long as it is one user's, and has not ended by itself for all. */
export class ForwardedFlows {
  readonly #leaseMs: number;
  readonly #flows = new Map<string, Forwarded>();
  #sweptMs = 0;

  constructor(leaseMs: number) {
    this.#leaseMs = leaseMs;
  }

  /** What the rules have, or had, between the ends of a flow. */
  membersOf(flow: FlowKey): readonly Member[] {
    return this.#flows.get(nameOf(flow))?.members ?? [];
  }

  /** From now on it is this, until the lease ends. */
  put(
    flow: FlowKey,
    { members, nowMs }: { readonly members: readonly Member[]; readonly nowMs: number },
  ): void {
    this.#sweep(nowMs);
    const name = nameOf(flow);
    const users = this.#flows.get(name)?.users ?? new Map<number, number>();
    users.set(flow.uid, nowMs + this.#leaseMs);
    this.#flows.set(name, { users, members });
  }

  /** It is the user's no more. What the rules are to forward no more, if it is nobody's. */
  end(flow: FlowKey, nowMs: number): readonly Member[] {
    const name = nameOf(flow);
    const forwarded = this.#flows.get(name);
    if (forwarded === undefined) return [];
    forwarded.users.delete(flow.uid);
    forgetLapsed(forwarded, nowMs);
    if (forwarded.users.size > 0) return [];
    this.#flows.delete(name);
    return forwarded.members;
  }

  /** As `end`, for all. */
  endAll(): readonly Member[] {
    const members = Array.from(this.#flows.values()).flatMap((each) => each.members);
    this.#flows.clear();
    return members;
  }

  /** Forgets what has ended by itself, now and then. */
  #sweep(nowMs: number): void {
    if (nowMs < this.#sweptMs + this.#leaseMs) return;
    this.#sweptMs = nowMs;
    for (const [name, forwarded] of this.#flows) {
      forgetLapsed(forwarded, nowMs);
      if (forwarded.users.size === 0) this.#flows.delete(name);
    }
  }
}

/** One and the same for all users between two ends. */
export function nameOf({ source, destination }: FlowKey): string {
  return `${source.address} ${source.port} ${destination.address} ${destination.port}`;
}

function forgetLapsed({ users }: Forwarded, nowMs: number): void {
  for (const [uid, untilMs] of users) if (untilMs < nowMs) users.delete(uid);
}
