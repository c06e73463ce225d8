import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeWindowUpdate,
  FLAG,
  FRAME,
} from '../../../shared/wire/http2-frame.ts';
import { encodeSettings, type Settings } from '../../../shared/wire/http2-settings.ts';
import type { Http2SettingsExchange } from './settings-exchange.ts';
import type { Http2Sides } from './sides.ts';

/**
 * Between the client's preface and the first request that is allowed, the application is told nothing: we speak HTTP/2 with the client alone, and keep what it says of
 * itself. The greeting tells all of that at once.
 */
export class Http2Greeting {
  readonly #sides: Http2Sides;
  readonly #settings: Http2SettingsExchange;
  #isSaid = false;
  /** Whether the client has had the acknowledgement that the application owes for the greeting. */
  #isAcknowledged = false;
  #windowBytes = 0;

  constructor(sides: Http2Sides, settings: Http2SettingsExchange) {
    this.#sides = sides;
    this.#settings = settings;
  }

  get isSaid(): boolean {
    return this.#isSaid;
  }

  /** The client's SETTINGS, its first or later ones. */
  takeSettings(settings: Settings): void {
    const passed = this.#settings.fromClient(settings);
    if (this.#isSaid) return this.#sides.toApplication.send(encodeSettings(passed));
    if (this.#sides.application !== undefined) return this.say();
    this.#isAcknowledged = true;
    this.#sides.toClient.send(encodeFrame(FRAME.settings, 0, { flags: FLAG.ack }));
  }

  /** The application may send so many bytes more. */
  takeWindow(bytes: number): void {
    if (!this.#isSaid) this.#windowBytes += bytes;
    else if (bytes > 0) this.#sides.toApplication.send(encodeWindowUpdate(0, bytes));
  }

  /** An acknowledgement of the application. False: the client has had it. */
  passesAcknowledgement(): boolean {
    const passes = !this.#isAcknowledged;
    this.#isAcknowledged = false;
    return passes;
  }

  /** Tells the application that somebody speaks HTTP/2, unless it was told. */
  say(): void {
    if (this.#isSaid) return;
    this.#isSaid = true;
    const { toApplication } = this.#sides;
    toApplication.send(CLIENT_PREFACE);
    toApplication.send(encodeSettings(this.#settings.ofClient));
    if (this.#windowBytes > 0) toApplication.send(encodeWindowUpdate(0, this.#windowBytes));
  }
}
