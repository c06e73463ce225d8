import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';

/** What brings back the answers to connections that are made from callers' addresses; `ReturnRoutes` of agent/native. Its methods throw `unavailable`. */
export interface ReturnPath {
  look(): 'in_force' | 'absent' | 'table_taken';
  install(): void;
  remove(): void;
}

/** How they stand, for status: nothing where no listener asks for them. */
export interface ReturnPathStatus {
  readonly isInForce: boolean;
  /** How often somebody else's change was undone since start. */
  readonly repairs: number;
  /** What went wrong at the last look. */
  readonly failure?: string;
}

/** As found at the last look; `unknown`: nobody has looked yet, and an earlier agent may have left anything. */
type State =
  | { readonly kind: 'unknown' | 'in_force' | 'away' }
  | { readonly kind: 'failed'; readonly isWanted: boolean; readonly failure: string };

/** Keeps the return path there while it is wanted. What cannot be installed is told and tried again at the next look: the connections that need it are refused until then, all others go on. */
export class KeptReturnRoutes {
  readonly #path: ReturnPath;
  readonly #log: Log;
  #state: State = { kind: 'unknown' };
  #repairs = 0;

  constructor(path: ReturnPath, log: Log) {
    this.#path = path;
    this.#log = log;
  }

  get status(): ReturnPathStatus | undefined {
    const repairs = this.#repairs;
    if (this.#state.kind === 'in_force') return { isInForce: true, repairs };
    if (this.#state.kind !== 'failed' || !this.#state.isWanted) return undefined;
    return { isInForce: false, repairs, failure: this.#state.failure };
  }

  /** Looks, and puts right what is not as wanted. Never throws. */
  keep(isWanted: boolean): void {
    try {
      if (isWanted) this.#bringBack();
      else if (this.#state.kind !== 'away') this.#path.remove();
      this.#state = { kind: isWanted ? 'in_force' : 'away' };
    } catch (error) {
      this.#fail(toPicketError(error), isWanted);
    }
  }

  #bringBack(): void {
    const wasInForce = this.#state.kind === 'in_force';
    if (wasInForce && this.#path.look() === 'in_force') return;
    // The first time also where all is there: what an earlier agent made under another number goes.
    this.#path.install();
    requireInForce(this.#path.look());
    if (!wasInForce) return;
    this.#repairs += 1;
    this.#log.error('return_routes_changed', { repairs: this.#repairs });
  }

  /** Told once for each failure, however often it is tried again. */
  #fail(error: PicketError, isWanted: boolean): void {
    const isKnown = this.#state.kind === 'failed' && this.#state.failure === error.message;
    if (!isKnown) this.#log.error('return_routes_failed', { error });
    this.#state = { kind: 'failed', isWanted, failure: error.message };
  }
}

function requireInForce(state: ReturnType<ReturnPath['look']>): void {
  if (state === 'in_force') return;
  if (state === 'table_taken')
    throw new PicketError(
      'failed_precondition',
      'return_table_taken',
      'The routing table has a route of somebody else: choose another number, capture.transparent_id',
    );
  throw new PicketError(
    'failed_precondition',
    'return_routes_shadowed',
    'A rule of policy routing of somebody else comes before ours',
  );
}
