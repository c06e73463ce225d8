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

/** How many denials are remembered. */
const CAPACITY = 1000;

/**
 * The newest denials of this host, in memory; the audit record has all of them. Where there are too many, whoever has the most loses his oldest: nobody pushes those of
 * others out.
 */
export class RecentDenials {
  #denials: RecentDenial[] = [];
  readonly #counts = new Map<number | null, number>();

  note(denial: RecentDenial): void {
    this.#denials.push(denial);
    this.#counts.set(denial.uid, (this.#counts.get(denial.uid) ?? 0) + 1);
    if (this.#denials.length > CAPACITY) this.#forget(this.#findGreatest());
  }

  /** Newest first, by their own time: workers tell of theirs one after another. With `uid`, only those of that user's processes. */
  list(options: { readonly uid?: number; readonly limit: number }): readonly RecentDenial[] {
    const { uid, limit } = options;
    const visible = uid === undefined ? this.#denials : this.#denials.filter((denial) => denial.uid === uid);
    return visible.toReversed().sort(byTimeFalling).slice(0, limit);
  }

  /** Gives all out, oldest first, and forgets them. */
  take(): RecentDenial[] {
    const denials = this.#denials;
    this.#denials = [];
    this.#counts.clear();
    return denials;
  }

  #findGreatest(): number | null {
    let greatest: number | null = null;
    let most = 0;
    for (const [uid, count] of this.#counts) if (count > most) [greatest, most] = [uid, count];
    return greatest;
  }

  #forget(uid: number | null): void {
    const [forgotten] = this.#denials.splice(
      this.#denials.findIndex((denial) => denial.uid === uid),
      1,
    );
    if (forgotten === undefined) return;
    const left = (this.#counts.get(uid) ?? 1) - 1;
    if (left === 0) this.#counts.delete(uid);
    else this.#counts.set(uid, left);
  }
}

function byTimeFalling({ record: a }: RecentDenial, { record: b }: RecentDenial): number {
  if (a.ts === b.ts) return 0;
  return a.ts < b.ts ? 1 : -1;
}
