import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { YieldingQueue } from '../../shared/runtime/yielding-queue.ts';

/** How long a host has to answer its challenge. */
export const ATTESTATION_SESSION_MS = 60_000;
/** How many challenges wait for their answer at once, in all and of one subject, which anybody may claim to be. An honest host answers within seconds. */
export const MAX_ATTESTATION_SESSIONS = 1000;
export const MAX_SESSIONS_PER_SUBJECT = 100;

const ID_BYTES = 32;

interface Session<T> {
  readonly pending: T;
  readonly subject: string;
  readonly endsAtMs: number;
}

/**
 * Challenges that wait for their answer, in the memory of one server. `T` is what the caller needs to go on: the attestor's `respond` and the request
 * it belongs to, so that an answer can be taken for no other request. When there are too many, those of whoever is claimed most often give way, the oldest first:
 * who claims to be a host that he is not keeps neither that host out nor others.
 */
export class AttestationSessions<T> {
  readonly #clock: Clock;
  readonly #random: (length: number) => Uint8Array;
  /** In the order in which they end, since all live equally long. */
  readonly #sessions = new Map<string, Session<T>>();
  readonly #bySubject = new YieldingQueue<string>();

  constructor(options: { readonly clock: Clock; readonly random: (length: number) => Uint8Array }) {
    this.#clock = options.clock;
    this.#random = options.random;
  }

  /** How many sessions wait. */
  get size(): number {
    this.#forgetEnded();
    return this.#sessions.size;
  }

  /** Keeps `pending` for a minute, or until it gives way. The id is 32 random bytes in base64url. */
  open(pending: T, { subject }: { readonly subject: string }): string {
    this.#forgetEnded();
    this.#makeRoom(subject);
    const id = Buffer.from(this.#random(ID_BYTES)).toString('base64url');
    this.#sessions.set(id, {
      pending,
      subject,
      endsAtMs: this.#clock.monotonicMs() + ATTESTATION_SESSION_MS,
    });
    this.#bySubject.add(subject, id);
    return id;
  }

  /** Ends the session and returns what it kept: whatever becomes of the answer, there is no second one. Throws `not_found`, reason `session_unknown`. */
  take(id: string): T {
    this.#forgetEnded();
    const session = this.#sessions.get(id);
    if (!session)
      throw new PicketError(
        'not_found',
        'session_unknown',
        'The attestation session is unknown, answered or expired',
      );
    this.#forget(id);
    return session.pending;
  }

  #forgetEnded(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [id, { endsAtMs }] of this.#sessions) {
      if (endsAtMs > nowMs) return;
      this.#forget(id);
    }
  }

  #makeRoom(subject: string): void {
    if (this.#bySubject.countOf(subject) >= MAX_SESSIONS_PER_SUBJECT)
      this.#forget(this.#bySubject.findOldestOf(subject));
    else if (this.#bySubject.size >= MAX_ATTESTATION_SESSIONS)
      this.#forget(this.#bySubject.findOldestOfLargest());
  }

  #forget(id: string | undefined): void {
    const session = id === undefined ? undefined : this.#sessions.get(id);
    if (id === undefined || session === undefined) return;
    this.#sessions.delete(id);
    this.#bySubject.delete(session.subject, id);
  }
}
