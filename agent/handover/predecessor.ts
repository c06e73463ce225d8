import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import { receiveDescriptors } from '../native/descriptor-passing.ts';
import { closeDescriptor } from '../native/dial.ts';
import type { SyncPosition } from '../server-link/sync-state.ts';
import { hasHeard } from './heard-position.ts';
import { fromIncumbent, HANDOVER_PROTOCOL, type FromIncumbent, type FromSuccessor } from './messages.ts';

/** The channel to the process that started this one: `process.send` and its events. */
export interface HandoverChannel {
  send(message: FromSuccessor): void;
  onMessage(listener: (message: unknown) => void): void;
  onEnd(listener: () => void): void;
  /** Ends the conversation, without which the process would not end. Harmless when it has ended. */
  close(): void;
}

/** How the process that was replaced stands, while it is there. */
export interface DrainStatus {
  readonly version: string;
  /** What it carries, and connections between agents whose last bytes the other host has yet to take. */
  readonly connections: number;
  /** When what is left will be cut, as an ISO 8601 timestamp. */
  readonly endsAt: string;
}

/** What this process hears of the server. */
export interface Heard {
  /** Whether it is heard now. */
  readonly isConnected: boolean;
  readonly sync: Watched<{ readonly position: SyncPosition | undefined }>;
}

/** Longer than the incumbent waits for us. */
const ANSWER_MS = 30_000;
/** How long this process waits to hear what its predecessor has heard, in milliseconds. Where the stream is open, it comes at the same time. */
export const CATCH_UP_MS = 3000;

/** The agent that this process takes over from. */
export class Predecessor {
  readonly #channel: HandoverChannel;
  readonly #clock: Clock;
  readonly #words: FromIncumbent[] = [];
  #version = '';
  #way: number | undefined;
  #status: DrainStatus | undefined;
  #isGone = false;
  #isServing = false;
  #heard: Heard | undefined;
  #wake = (): void => undefined;
  #onGone = (): void => undefined;
  #onLost = (): void => undefined;
  #onRetired: (() => void)[] = [];

  constructor(channel: HandoverChannel, clock: Clock) {
    this.#channel = channel;
    this.#clock = clock;
    channel.onMessage((message) => this.#take(message));
    channel.onEnd(() => {
      const isLost = this.#status === undefined;
      this.#isGone = true;
      this.#status = undefined;
      this.#wake();
      // Nobody has given way to this process, which ends.
      if (isLost) return this.#onLost();
      this.#retired();
      this.#onGone();
    });
  }

  /** Whether the other process is there no more, or says nothing any more. */
  get hasEnded(): boolean {
    return this.#isGone;
  }

  /** Undefined before it drains, and once it has ended. */
  get draining(): DrainStatus | undefined {
    return this.#status;
  }

  /** Calls `listener` once the other process has ended; at once if it has. There is one listener. */
  whenGone(listener: () => void): void {
    if (this.#isGone) listener();
    else this.#onGone = listener;
  }

  /** Calls `listener` where the other process ends without having said that it takes nothing more: what it heard of the server at the end, nobody knows. Once this process serves; there is one listener. */
  whenLost(listener: () => void): void {
    this.#onLost = listener;
  }

  /** Calls `listener` once the other process takes no connections any more, as it says, or has ended; at once if it is so. Each is called once. */
  whenRetired(listener: () => void): void {
    this.#onRetired.push(listener);
    if (this.#isGone || this.#status !== undefined) this.#retired();
  }

  /** Says that our settings are good, and waits for the sockets: descriptors by name. Throws `unavailable`, reason `incumbent_gone`. */
  async takeSockets(version: string): Promise<ReadonlyMap<string, number>> {
    this.#send({ type: 'hello', protocol: HANDOVER_PROTOCOL, version, takesLate: true });
    const handover = await this.#expect('handover');
    this.#version = handover.version;
    this.#way = handover.way;
    return new Map(handover.sockets.map(({ name, fd }) => [name, fd]));
  }

  /** Says that all is read, and how far the server was heard, and waits until this process may serve. What was opened meanwhile, as `takeSockets`. Throws as that, and as `receiveDescriptors`. */
  async awaitTurn(heard: Heard): Promise<ReadonlyMap<string, number>> {
    this.#heard = heard;
    this.#send({ type: 'prepared', isCurrent: heard.isConnected, ...this.#position() });
    const { sockets = [] } = await this.#expect('go');
    return this.#takeLate(sockets);
  }

  #takeLate(sockets: readonly { readonly name: string }[]): ReadonlyMap<string, number> {
    const way = this.#way;
    if (way === undefined) return new Map();
    const late = new Map(sockets.flatMap(({ name }) => receiveDescriptors(way).map((fd) => [name, fd])));
    closeDescriptor(way);
    return late;
  }

  /** Says that this process takes connections. Throws as `takeSockets`. */
  serving(): void {
    if (this.#isGone) throw this.#notTakenOver('has ended');
    this.#isServing = true;
    this.#send({ type: 'serving', ...this.#position() });
  }

  /** Says why this process does not take over. Harmless afterwards. */
  failed(cause: unknown): void {
    const message = explain(toPicketError(cause));
    if (!this.#isServing && !this.#isGone)
      this.#channel.send({ type: 'failed', message: message.slice(0, 4096) });
  }

  /** Whoever has ended hears nothing. */
  #send(message: FromSuccessor): void {
    if (!this.#isGone) this.#channel.send(message);
  }

  #position(): { readonly position?: SyncPosition } {
    const position = this.#heard?.sync.current.position;
    return position === undefined ? {} : { position };
  }

  /** Says how far the server was heard: as soon as it is as far as that, or when it took too long. */
  #catchUp(position: SyncPosition): void {
    const { sync } = this.#heard ?? {};
    const isThere = (): boolean => hasHeard(sync?.current.position, position);
    const answer = (): void => {
      unwatch();
      cancel();
      this.#send({ type: 'heard', ...this.#position() });
    };
    const unwatch = sync?.watch(() => isThere() && answer()) ?? ((): void => undefined);
    const cancel = this.#clock.schedule(CATCH_UP_MS, answer);
    if (isThere()) answer();
  }

  #take(message: unknown): void {
    const parsed = fromIncumbent.safeParse(message);
    if (!parsed.success) return;
    const word = parsed.data;
    if (word.type === 'draining') {
      this.#status = { version: this.#version, connections: word.connections, endsAt: word.endsAt };
      this.#retired();
    } else if (word.type === 'catch_up') this.#catchUp(word.position);
    else if (this.#words.length === 0) this.#words.push(word);
    this.#wake();
  }

  #retired(): void {
    for (const tell of this.#onRetired.splice(0)) tell();
  }

  async #expect<T extends FromIncumbent['type']>(type: T): Promise<Extract<FromIncumbent, { type: T }>> {
    const deadlineMs = this.#clock.monotonicMs() + ANSWER_MS;
    while (this.#words.length === 0 && !this.#isGone && this.#clock.monotonicMs() < deadlineMs) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const cancel = this.#clock.schedule(Math.max(0, deadlineMs - this.#clock.monotonicMs()), resolve);
      await promise;
      cancel();
    }
    const word = this.#words.shift();
    if (word?.type === type) return word as Extract<FromIncumbent, { type: T }>;
    throw this.#notTakenOver(this.#isGone ? 'has ended' : `did not say ${type}`);
  }

  #notTakenOver(why: string): PicketError {
    return new PicketError('unavailable', 'incumbent_gone', `Cannot take over: the running agent ${why}`);
  }
}

/** With the settings that are wrong, where that is it. */
function explain({ message, details }: PicketError): string {
  const faults = details?.['faults'];
  if (!Array.isArray(faults)) return message;
  const each = (faults as readonly { readonly message?: string }[]).map((fault) => fault.message ?? '');
  return `${message}: ${each.join('; ')}`;
}
