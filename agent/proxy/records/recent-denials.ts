import type { AccessRecord } from '../../../shared/protocol/audit.ts';

/** A denial as `picket why` shows it on the caller's own host. */
export interface RecentDenial {
  readonly record: AccessRecord;
  /** Whether another host decided it, and told this one. */
  readonly isTold: boolean;
  /** User of the process that asked, or null when it could not be found: shown to that user and to root only. */
  readonly uid: number | null;
  readonly pid: number | null;
}

/** How many denials are remembered: the newest. */
const CAPACITY = 1000;

/** The newest denials of this host, in memory; the audit record has all of them. */
export class RecentDenials {
  readonly #denials: RecentDenial[] = [];

  note(denial: RecentDenial): void {
    this.#denials.push(denial);
    if (this.#denials.length > CAPACITY) this.#denials.shift();
  }

  /** Newest first. With `uid`, only those of that user's processes. */
  list(options: { readonly uid?: number; readonly limit: number }): readonly RecentDenial[] {
    const { uid, limit } = options;
    const visible = uid === undefined ? this.#denials : this.#denials.filter((denial) => denial.uid === uid);
    return visible.toReversed().slice(0, limit);
  }
}
