import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';

/** How long a host has to answer its challenge. */
export const ATTESTATION_SESSION_MS = 60_000;
/** How many challenges wait for their answer at once, in all and of one subject, which anybody may claim to be. */
export const MAX_ATTESTATION_SESSIONS = 1000;
export const MAX_SESSIONS_PER_SUBJECT = 10;

const ID_BYTES = 32;

interface Session<T> {
  readonly pending: T;
  readonly subject: string;
  readonly endsAtMs: number;
}

/**
 * Challenges that wait for their answer, in the memory of one server. `T` is what the caller needs to go on: the attestor's `respond` and the request
 * it belongs to, so that an answer can be taken for no other request.
 */
export class AttestationSessions<T> {
  readonly #clock: Clock;
  readonly #random: (length: number) => Uint8Array;
  /** In the order in which they end, since all live equally long. */
  readonly #sessions = new Map<string, Session<T>>();

  constructor(options: { readonly clock: Clock; readonly random: (length: number) => Uint8Array }) {
    this.#clock = options.clock;
    this.#random = options.random;
  }

  /** How many sessions wait. */
  get size(): number {
    this.#forgetEnded();
    return this.#sessions.size;
  }

  /** Keeps `pending` for a minute. The id is 32 random bytes in base64url. Throws `resource_exhausted`, reason `too_many_sessions`. */
  open(pending: T, { subject }: { readonly subject: string }): string {
    this.#forgetEnded();
    this.#requireRoom(subject);
    const id = Buffer.from(this.#random(ID_BYTES)).toString('base64url');
    this.#sessions.set(id, {
      pending,
      subject,
      endsAtMs: this.#clock.monotonicMs() + ATTESTATION_SESSION_MS,
    });
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
    this.#sessions.delete(id);
    return session.pending;
  }

  #forgetEnded(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [id, { endsAtMs }] of this.#sessions) {
      if (endsAtMs > nowMs) return;
      this.#sessions.delete(id);
    }
  }

  #requireRoom(subject: string): void {
    let ofSubject = 0;
    for (const session of this.#sessions.values()) if (session.subject === subject) ofSubject++;
    if (this.#sessions.size < MAX_ATTESTATION_SESSIONS && ofSubject < MAX_SESSIONS_PER_SUBJECT) return;
    throw new PicketError('resource_exhausted', 'too_many_sessions', 'Too many attestations are under way');
  }
}
