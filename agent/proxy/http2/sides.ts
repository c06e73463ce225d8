import type { ByteStream, ByteStreamReader } from '../streams/byte-stream.ts';
import { HTTP2_LIMITS } from './limits.ts';
import { Http2Injections } from './injections.ts';
import { Http2Output } from './output.ts';

export interface Http2SidesOptions {
  readonly client: ByteStream;
  /** Whether a frame may begin towards each side. */
  readonly isClientBoundary: () => boolean;
  readonly isApplicationBoundary: () => boolean;
  /** Asked before anything goes to the application: whether what allows it is written down. What is not goes nowhere. */
  readonly isRecorded: () => boolean;
  /** Whether a side is to be read, as far as that does not depend on what waits to be sent. */
  readonly wantsClient: () => boolean;
  readonly wantsApplication: () => boolean;
  /** The client is read from now on, or no more. */
  readonly onClientSteered: () => void;
}

/**
 * Client and application of one relay as streams: what is sent to each, and when each is read. Whatever waits for a client that does not read, our own answers too,
 * holds that client back.
 */
export class Http2Sides {
  readonly #options: Http2SidesOptions;
  readonly toClient: Http2Injections;
  readonly toApplication: Http2Injections;
  readonly #clientOutput: Http2Output;
  readonly #applicationOutput: Http2Output;
  #application: ByteStream | undefined;
  /** What was to be sent before the application was connected. */
  #early: Uint8Array[] = [];
  #isClientFull = false;
  #isApplicationFull = false;
  #isClientPaused = false;
  #isApplicationPaused = false;
  #holding: PromiseWithResolvers<void> | undefined;

  constructor(options: Http2SidesOptions) {
    this.#options = options;
    this.#clientOutput = new Http2Output((bytes) => {
      this.#isClientFull = !options.client.write(bytes);
    });
    this.#applicationOutput = new Http2Output((bytes) => {
      if (!options.isRecorded()) return;
      if (this.#application === undefined) this.#early.push(new Uint8Array(bytes));
      else this.#isApplicationFull = !this.#application.write(bytes);
    });
    this.toClient = new Http2Injections(options.isClientBoundary, (frame) =>
      this.#clientOutput.append(frame),
    );
    this.toApplication = new Http2Injections(options.isApplicationBoundary, (frame) =>
      this.#applicationOutput.append(frame),
    );
  }

  get application(): ByteStream | undefined {
    return this.#application;
  }

  /** The application is connected. */
  adopt(application: ByteStream, reader: ByteStreamReader): void {
    this.#application = application;
    for (const bytes of this.#early.splice(0)) this.#isApplicationFull = !application.write(bytes);
    application.attach(reader);
  }

  /** The application is gone; nothing reaches it any more. */
  drop(): void {
    this.#application?.abort();
    this.#application = undefined;
    this.#early = [];
  }

  /** Neither side is read until `release`. */
  hold(): void {
    this.#holding ??= Promise.withResolvers();
    this.settle();
  }

  release(): void {
    if (this.#holding === undefined) return;
    this.#holding.resolve();
    this.#holding = undefined;
    this.settle();
  }

  get isHeld(): boolean {
    return this.#holding !== undefined;
  }

  /** Resolves with `release`; undefined while nothing is held. */
  get released(): Promise<void> | undefined {
    return this.#holding?.promise;
  }

  /** Whether the client is not to be read because of what waits to be sent. */
  get isBackedUp(): boolean {
    const waits = this.toClient.waitingBytes > HTTP2_LIMITS.waitingBytes;
    return this.#isClientFull || this.#isApplicationFull || waits;
  }

  /** Whether the application is not to be read because of what waits to be sent: what it says on streams that are over is answered too. */
  get #isApplicationBackedUp(): boolean {
    return this.#isClientFull || this.toApplication.waitingBytes > HTTP2_LIMITS.waitingBytes;
  }

  /** Whether the client is read: while it is not, nothing that it owes can come. */
  get isClientRead(): boolean {
    return !this.#isClientPaused;
  }

  passToClient(bytes: Uint8Array, start: number, end: number): void {
    this.#clientOutput.append(bytes, start, end);
  }

  passToApplication(bytes: Uint8Array, start: number, end: number): void {
    this.#applicationOutput.append(bytes, start, end);
  }

  sendBlock(block: Uint8Array, stream: Parameters<Http2Output['appendBlock']>[1]): void {
    this.#applicationOutput.appendBlock(block, stream);
  }

  /** Sends what was collected, and says who is to be read. To be called after everything that was done. */
  settle(): void {
    this.#applicationOutput.flush();
    this.#clientOutput.flush();
    const { client, wantsClient, wantsApplication, onClientSteered } = this.#options;
    const isClientPaused = this.isHeld || this.isBackedUp || !wantsClient();
    if (isClientPaused !== this.#isClientPaused) {
      this.#isClientPaused = isClientPaused;
      if (isClientPaused) client.pause();
      else client.resume();
      onClientSteered();
    }
    const isApplicationPaused = this.isHeld || this.#isApplicationBackedUp || !wantsApplication();
    if (this.#application === undefined || isApplicationPaused === this.#isApplicationPaused) return;
    this.#isApplicationPaused = isApplicationPaused;
    if (isApplicationPaused) this.#application.pause();
    else this.#application.resume();
  }

  clientDrained(): void {
    this.#isClientFull = false;
    this.settle();
  }

  applicationDrained(): void {
    this.#isApplicationFull = false;
    this.settle();
  }
}
