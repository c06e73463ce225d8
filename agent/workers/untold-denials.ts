import type { RecentDenial } from '../proxy/records/recent-denials.ts';

/** The agent remembers no more. */
const CAPACITY = 1000;

/** The newest denials of a worker of which its agent does not know yet. */
export class UntoldDenials {
  #denials: RecentDenial[] = [];

  note(denial: RecentDenial): void {
    this.#denials.push(denial);
    if (this.#denials.length > CAPACITY) this.#denials.shift();
  }

  /** Gives them out, oldest first, and forgets them. */
  take(): RecentDenial[] {
    const denials = this.#denials;
    this.#denials = [];
    return denials;
  }
}
