import { PicketError } from '../../../shared/errors/errors.ts';
import type { MayGoOn, Piecewise } from './piecewise.ts';

/** What one connection carries that has permits of its own, which are the policy's: as much as takes a while to be judged again. */
export interface CarriedStreams {
  /** A pass over all of it, which judges it again and ends what has lost its permit, once it is gone on with. */
  pass(): StreamsPass;
  /** Nothing of it passes, in either direction, until `release`. Calls do not nest. */
  hold(): void;
  release(): void;
}

/** One pass over the streams of a connection. */
export interface StreamsPass extends Piecewise {
  /** How many streams it goes over. */
  readonly count: number;
  /** Has it judge all that are open now from where it stands, and come round to those before. */
  again(): void;
}

export interface UnjudgedStreamsOptions<Connection> {
  /** Ends a connection that cannot be judged, or held, and throws nothing. */
  readonly onFault: (connection: Connection, fault: unknown) => void;
  /** Whether the streams of a connection stand still until all of them were judged. */
  readonly standStill: boolean;
}

interface Unjudged {
  readonly streams: CarriedStreams;
  readonly pass: StreamsPass;
  /** So far, and how many there may be before it is ended for that another change came. */
  judgements: number;
  allowed: number;
  isHeld: boolean;
}

/** How many streams of one connection are judged before others have their turn: who carries little does not wait for who carries much. */
const STREAMS_IN_A_TURN = 16;

/**
 * How often all streams of a connection are judged over, for everything that changed meanwhile, before it is ended: a client whose connection is reset comes again, and one whose
 * connection stands still waits for ever.
 */
export const MAX_PASSES = 4;

/** The streams that are to be judged again, of many connections in turn. */
export class UnjudgedStreams<Connection> {
  readonly #options: UnjudgedStreamsOptions<Connection>;
  /** The next ones first. */
  readonly #waiting = new Map<Connection, Unjudged>();

  constructor(options: UnjudgedStreamsOptions<Connection>) {
    this.#options = options;
  }

  /** All streams of a connection are to be judged again, those that were judged meanwhile too. Whoever comes to no end by that is ended. */
  begin(connection: Connection, streams: CarriedStreams): void {
    const begun = this.#waiting.get(connection);
    if (begun !== undefined) return this.#beginAgain(connection, begun);
    const pass = streams.pass();
    const allowed = MAX_PASSES * pass.count;
    this.#waiting.set(connection, { streams, pass, judgements: 0, allowed, isHeld: false });
  }

  /** The connection has ended. */
  forget(connection: Connection): void {
    this.#waiting.delete(connection);
  }

  /**
   * Judges in turn until that is done or `mayGoOn` says no. Whatever is left then stands still, where it is to: this must be called before anything can pass. Returns whether
   * nothing is left.
   */
  goOn(mayGoOn: MayGoOn): boolean {
    // Who has more to be judged is put behind the others, and so comes again.
    for (const [connection, unjudged] of this.#waiting) {
      if (!mayGoOn()) break;
      this.#takeTurn(connection, unjudged, mayGoOn);
    }
    if (this.#options.standStill)
      for (const [connection, unjudged] of this.#waiting)
        if (!unjudged.isHeld) this.#hold(connection, unjudged);
    return this.#waiting.size === 0;
  }

  #beginAgain(connection: Connection, begun: Unjudged): void {
    if (begun.judgements > begun.allowed) return this.#end(connection, endlessChange());
    begun.pass.again();
    begun.allowed = Math.max(begun.allowed, MAX_PASSES * begun.pass.count);
  }

  #takeTurn(connection: Connection, unjudged: Unjudged, mayGoOn: MayGoOn): void {
    this.#waiting.delete(connection);
    let left = STREAMS_IN_A_TURN;
    try {
      if (!unjudged.pass.goOn(() => left > 0 && mayGoOn() && left-- > 0))
        this.#waiting.set(connection, unjudged);
      else if (unjudged.isHeld) unjudged.streams.release();
      unjudged.judgements += STREAMS_IN_A_TURN - left;
    } catch (fault) {
      this.#end(connection, fault);
    }
  }

  #hold(connection: Connection, unjudged: Unjudged): void {
    try {
      unjudged.streams.hold();
      unjudged.isHeld = true;
    } catch (fault) {
      this.#end(connection, fault);
    }
  }

  #end(connection: Connection, fault: unknown): void {
    this.#waiting.delete(connection);
    this.#options.onFault(connection, fault);
  }
}

function endlessChange(): PicketError {
  return new PicketError(
    'unavailable',
    'judgement_endless',
    'Policies changed faster than the streams of a connection could be judged',
  );
}
