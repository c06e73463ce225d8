import type { Clock } from '../../shared/runtime/clock.ts';
import { closeDescriptor } from '../native/dial.ts';
import { openDescriptorWay, sendDescriptors } from '../native/descriptor-passing.ts';

/** Descriptors for a worker. */
export interface Parcel {
  /** By which it can be taken back. */
  readonly key: string;
  /** Open until it was sent or taken back. None for what only has to come behind all others. */
  readonly descriptors: readonly number[];
  /** It was sent: the worker is to be told what it is for, and finds it. */
  readonly onSent: () => void;
}

/** A worker that is busy takes nothing; so long later it is tried again, in milliseconds. */
const AGAIN_MS = 20;

/** Sends descriptors to a worker in their order, as fast as it takes them. */
export class DescriptorSender {
  readonly #clock: Clock;
  readonly #onFailed: (error: unknown) => void;
  readonly #way: ReturnType<typeof openDescriptorWay>;
  #waiting: readonly Parcel[] = [];
  #cancel: (() => void) | undefined;
  #isClosed = false;

  /** `onFailed`: the worker will not get what it was sent, and nothing after it. Throws as `openDescriptorWay`. */
  constructor(clock: Clock, onFailed: (error: unknown) => void) {
    this.#clock = clock;
    this.#onFailed = onFailed;
    this.#way = openDescriptorWay();
  }

  /** The worker's end, until it was started. */
  get far(): number {
    return this.#way.far;
  }

  /** The worker was started: it has its end itself. */
  started(): void {
    closeDescriptor(this.#way.far);
  }

  send(parcel: Parcel): void {
    if (this.#isClosed) return;
    this.#waiting = [...this.#waiting, parcel];
    if (this.#cancel === undefined) this.#deliver();
  }

  /** Whether it was not sent yet, and will not be. */
  takeBack(key: string): boolean {
    const before = this.#waiting.length;
    this.#waiting = this.#waiting.filter((parcel) => parcel.key !== key);
    return this.#waiting.length < before;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancel?.();
    this.#waiting = [];
    closeDescriptor(this.#way.near);
  }

  #deliver(): void {
    this.#cancel = undefined;
    try {
      this.#deliverAll();
    } catch (error) {
      this.close();
      this.#onFailed(error);
    }
  }

  #deliverAll(): void {
    for (const parcel of this.#waiting) {
      const { descriptors } = parcel;
      if (descriptors.length > 0 && !sendDescriptors(this.#way.near, descriptors)) {
        this.#cancel = this.#clock.schedule(AGAIN_MS, () => this.#deliver());
        return;
      }
      this.#waiting = this.#waiting.slice(1);
      parcel.onSent();
    }
  }
}
