import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { CaptureStatus } from '../capture/capture-keeper.ts';
import type { KeptRules } from '../capture/kept-capture.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import type { DeclaredNamespace } from './namespace-source.ts';
import type { Namespaces } from './namespaces.ts';
import { GrowingRest } from './growing-rest.ts';
import { identityOf, type PathSight } from './path-sight.ts';
import type { Turns } from './turns.ts';

/** Takes what the programs of a namespace connect to. Throws `unavailable`, reason `listen_failed` or `network_namespace`. */
export type ListenIn = (namespace: NetworkNamespace) => NamespaceListener;

/** What takes the connections of a namespace. */
export interface NamespaceListener {
  stop(): void;
  /** Whether somebody within has ended its socket: it takes nothing any more, and costs whoever serves it all of his time until it is stopped. */
  readonly isBroken: boolean;
}

/** The rules of one namespace. */
export interface CapturedNamespace extends Running, KeptRules {
  readonly status: CaptureStatus;
}

export interface NamespacePlaceOptions {
  readonly namespaces: Namespaces;
  /** Puts the rules in force within. Rejects with what the kernel said; nothing that passes uncaptured is left. */
  readonly capture: (namespace: NetworkNamespace) => Promise<CapturedNamespace>;
  readonly turns: Turns;
  readonly clock: Clock;
  readonly log: Log;
}

/** How one namespace stands. `absent`: it is not there now, as between two pods; `failed`: it is there, and nothing of it passes. */
export interface NamespaceStatus {
  readonly name: string;
  /** As entries call it. */
  readonly label: string;
  /** Whether it was found in a folder. */
  readonly isFound: boolean;
  /** What it is reached at. */
  readonly addresses: readonly string[];
  readonly state: 'captured' | 'absent' | 'failed';
  /** Whether the rules in it are the agent's. */
  readonly isIntact: boolean;
  /** How often somebody else's change of them was undone. */
  readonly repairs: number;
  readonly why?: string;
}

/**
 * What cannot be captured is tried again after this time, in milliseconds, and then after twice as long each time, or at once when it is another one. Soon at first: an agent of before that is being
 * replaced may have the port there for a moment longer.
 */
const FIRST_AGAIN_MS = 250;
const AGAIN_MS = 2000;
/** What somebody breaks again and again is left alone for so long. */
const MAX_REST_MS = 60_000;
const BROKEN = 'Somebody within has ended the socket at which the agent listens';

interface Begun {
  /** Of `PathSight`. */
  readonly identity: string;
  readonly namespace: NetworkNamespace;
  captured?: CapturedNamespace;
  /** Undefined before it may be listened. */
  listener?: NamespaceListener | undefined;
}

type Held = Begun & { readonly captured: CapturedNamespace };

/** One name, and what is behind it at a time. */
export class NamespacePlace {
  readonly #declared: DeclaredNamespace;
  readonly #options: NamespacePlaceOptions;
  #held: Held | undefined;
  #listenIn: ListenIn | undefined;
  /** What the path led to when it was looked at last. */
  #identity: string | undefined;
  /** What is being captured, or let go. */
  #underWay: string | undefined;
  #failure: { readonly why: string; readonly atMs: number; readonly restMs: number } | undefined;
  readonly #rests = new GrowingRest({ firstMs: FIRST_AGAIN_MS, maxMs: MAX_REST_MS });
  #looking: Promise<void> | undefined;
  #isLetGo = false;
  #isLeft = false;

  constructor(declared: DeclaredNamespace, options: NamespacePlaceOptions) {
    this.#declared = declared;
    this.#options = options;
  }

  get status(): NamespaceStatus {
    const { name, label, routedIn } = this.#declared;
    const addresses = this.#options.namespaces.addressesOf({ name });
    const told = { name, label, isFound: routedIn.length > 0, addresses, isIntact: false, repairs: 0 };
    if (this.#held !== undefined) {
      const { isIntact, repairs } = this.#held.captured.status;
      return { ...told, state: 'captured', isIntact, repairs };
    }
    if (this.#failure === undefined) return { ...told, state: 'absent' };
    return { ...told, state: 'failed', why: this.#failure.why };
  }

  /** What it has, is about to have, or has not let go yet: nobody else may do anything in it. Undefined: nothing. */
  get identity(): string | undefined {
    return this.#held?.identity ?? this.#underWay;
  }

  /** Takes what its path leads to, and captures it where it is new. Never rejects. */
  async look(sight: PathSight): Promise<void> {
    if (this.#looking !== undefined || this.#isLeft) return;
    this.#looking = this.#follow(sight)
      .catch((error: unknown) => this.#fail(error))
      .finally(() => (this.#looking = undefined));
    await this.#looking;
  }

  /** Listens in what is captured, and from now on in whatever will be. Where that fails, it is captured no more. Never rejects. */
  async listen(listenIn: ListenIn): Promise<void> {
    this.#listenIn = listenIn;
    const held = this.#held;
    if (held === undefined || held.listener !== undefined) return;
    try {
      held.listener = listenIn(held.namespace);
    } catch (error) {
      this.#fail(error);
      await this.#forget();
    }
  }

  /** Its rules are another process's to write: nothing is captured from now on. What goes is let go of as before. */
  async letGo(): Promise<void> {
    this.#isLetGo = true;
    await this.#looking;
    await this.#held?.captured.letGo();
  }

  /** The other process is gone. */
  async takeUp(): Promise<void> {
    this.#isLetGo = false;
    await this.#held?.captured.takeUp();
  }

  /** Lets go what is captured, for ever, and what is about to be. Never rejects. */
  async leave(): Promise<void> {
    this.#isLeft = true;
    await this.#looking;
    await this.#forget();
  }

  async #follow(sight: PathSight): Promise<void> {
    if (this.#held?.listener?.isBroken === true) await this.#rest();
    const identity = sight.kind === 'there' ? sight.identity : undefined;
    if (identity !== this.#identity) {
      await this.#forget();
      this.#identity = identity;
      this.#failure = undefined;
    }
    if (sight.kind === 'failed') this.#fail(sight.error);
    else if (sight.kind === 'absent') this.#failure = undefined;
    if (identity === undefined || this.identity !== undefined || this.#isResting()) return;
    this.#underWay = identity;
    try {
      await this.#options.turns.take(async () => {
        if (!this.#isLeft && !this.#isLetGo) await this.#capture(identity);
      });
    } finally {
      this.#underWay = undefined;
    }
  }

  /** Whoever has ended the socket can do so again: each time there are a quarter of a second in which the agent turns in circles, and three runs of nft. */
  async #rest(): Promise<void> {
    const restMs = this.#rests.next(this.#options.clock.monotonicMs());
    this.#fail(new PicketError('unavailable', 'listen_failed', BROKEN), restMs);
    await this.#forget();
  }

  #isResting(): boolean {
    const failure = this.#failure;
    return failure !== undefined && this.#options.clock.monotonicMs() - failure.atMs < failure.restMs;
  }

  async #capture(identity: string): Promise<void> {
    const { name, path } = this.#declared;
    const { namespaces, capture, log } = this.#options;
    let begun: Begun | undefined;
    try {
      const namespace = NetworkNamespace.open(name, path);
      begun = { identity, namespace };
      requireSame(namespace, { identity, path });
      await namespaces.expect(namespace, this.#declared);
      const captured = await capture(namespace);
      begun.captured = captured;
      // The rules stand before anybody listens: what a program sends in between is refused.
      begun.listener = this.#listenIn?.(namespace);
      this.#held = Object.assign(begun, { captured });
      this.#failure = undefined;
      namespaces.add(namespace, this.#declared);
      log.info('namespace_captured', { name, addresses: namespaces.addressesOf(namespace) });
    } catch (cause) {
      this.#held = undefined;
      this.#fail(cause);
      if (begun !== undefined) await this.#undo(begun);
    }
  }

  #fail(cause: unknown, leastMs = FIRST_AGAIN_MS): void {
    const { clock, log } = this.#options;
    const error = toPicketError(cause);
    if (error.message !== this.#failure?.why)
      log.error('namespace_not_captured', { name: this.#declared.name, error });
    const againMs = Math.min(2 * (this.#failure?.restMs ?? FIRST_AGAIN_MS / 2), AGAIN_MS);
    const restMs = Math.max(againMs, leastMs);
    this.#failure = { why: error.message, atMs: clock.monotonicMs(), restMs };
  }

  async #forget(): Promise<void> {
    const held = this.#held;
    if (held === undefined) return;
    this.#held = undefined;
    this.#underWay = held.identity;
    try {
      await this.#undo(held);
    } finally {
      this.#underWay = undefined;
    }
    this.#options.log.info('namespace_gone', { name: held.namespace.name });
  }

  /** Takes back whatever was begun. Never rejects: what cannot be taken back is told. */
  async #undo({ namespace, listener, captured }: Begun): Promise<void> {
    // Retired first: whoever is told that it is gone must not find it still usable. Its descriptor stays while nft may be running in it.
    namespace.retire();
    const steps = [
      () => this.#options.namespaces.remove(namespace),
      () => listener?.stop(),
      async () => await captured?.stop(),
      () => namespace[Symbol.dispose](),
    ];
    for (const step of steps) await this.#attempt(step);
  }

  async #attempt(step: () => unknown): Promise<void> {
    try {
      await step();
    } catch (cause) {
      const error = toPicketError(cause);
      this.#options.log.error('namespace_not_let_go', { name: this.#declared.name, error });
    }
  }
}

/** What was opened may have been put there after it was looked. Throws `unavailable`, reason `network_namespace`; it is looked again. */
function requireSame(
  namespace: NetworkNamespace,
  { identity, path }: { readonly identity: string; readonly path: string },
): void {
  if (identityOf(namespace.path) === identity) return;
  throw new PicketError('unavailable', 'network_namespace', `${path} has become another one meanwhile`);
}
