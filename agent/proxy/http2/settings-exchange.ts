import { DEFAULT_TABLE_BYTES } from '../../../shared/wire/hpack-decoder.ts';
import { DEFAULT_WINDOW_BYTES, MIN_MAX_FRAME_BYTES } from '../../../shared/wire/http2-frame.ts';
import { encodeSettings, SETTING, type Settings } from '../../../shared/wire/http2-settings.ts';
import { HTTP2_LIMITS } from './limits.ts';

/** What we tell a client first, whatever the application will say. */
export const OWN_SETTINGS: Uint8Array = encodeSettings(
  new Map([
    [SETTING.headerTableSize, 0],
    [SETTING.maxConcurrentStreams, HTTP2_LIMITS.openStreams],
  ]),
);

const KNOWN_SETTINGS: ReadonlySet<number> = new Set(Object.values(SETTING));

/**
 * What client and application tell each other of their settings. None has a header table: a block that is left out, or changed on its way, then leaves no trace at the
 * other end. No server pushes, since nobody asked for what it pushes, and nobody has more streams than we follow.
 */
export class Http2SettingsExchange {
  readonly #ofClient = new Map<number, number>([
    [SETTING.headerTableSize, 0],
    [SETTING.enablePush, 0],
  ]);
  #initialWindowBytes = DEFAULT_WINDOW_BYTES;
  #hasSmallTable = false;
  #maxFrameBytes = MIN_MAX_FRAME_BYTES;

  /** Everything that the client has said so far, as the application is to hear it first. */
  get ofClient(): Settings {
    return this.#ofClient;
  }

  /** The client's window for a new stream. */
  get initialWindowBytes(): number {
    return this.#initialWindowBytes;
  }

  /** Whether the client has made its header table smaller than tables are at first. */
  get hasSmallTable(): boolean {
    return this.#hasSmallTable;
  }

  /** The longest frame that the application takes, as far as we must hold one whole. */
  get maxFrameBytes(): number {
    return this.#maxFrameBytes;
  }

  /** What the application is to hear of it. */
  fromClient(settings: Settings): Settings {
    const passed = new Map(settings);
    passed.delete(SETTING.headerTableSize);
    passed.delete(SETTING.enablePush);
    this.#hasSmallTable ||= (settings.get(SETTING.headerTableSize) ?? Infinity) < DEFAULT_TABLE_BYTES;
    this.#initialWindowBytes = settings.get(SETTING.initialWindowSize) ?? this.#initialWindowBytes;
    for (const [identifier, value] of passed)
      if (this.#keeps(identifier)) this.#ofClient.set(identifier, value);
    return passed;
  }

  /** A client may invent identifiers, again and again, before anybody else hears of it. */
  #keeps(identifier: number): boolean {
    return (
      KNOWN_SETTINGS.has(identifier) ||
      this.#ofClient.has(identifier) ||
      this.#ofClient.size < KNOWN_SETTINGS.size + HTTP2_LIMITS.unknownSettings
    );
  }

  /** What the client is to hear of it. */
  fromApplication(settings: Settings): Settings {
    const passed = new Map(settings);
    passed.delete(SETTING.headerTableSize);
    const streams = passed.get(SETTING.maxConcurrentStreams);
    if (streams !== undefined)
      passed.set(SETTING.maxConcurrentStreams, Math.min(streams, HTTP2_LIMITS.openStreams));
    const frameBytes = settings.get(SETTING.maxFrameSize);
    if (frameBytes !== undefined) this.#maxFrameBytes = Math.min(frameBytes, HTTP2_LIMITS.blockBytes);
    return passed;
  }
}
