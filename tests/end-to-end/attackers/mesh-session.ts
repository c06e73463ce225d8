import {
  encodeFrame,
  FrameDecoder,
  writeDataHeader,
  type TunnelFrame,
} from '../../../shared/wire/tunnel-frame.ts';
import type { TestHost } from '../../kit/netns.ts';
import { waitUntil } from '../../kit/wait.ts';

/** What a client of port 15008 shows, as PEM files. */
export interface ShownFiles {
  readonly leafFile: string;
  /** What comes behind the leaf. */
  readonly othersFile: string;
  readonly keyFile: string;
}

/** A TLS connection to port 15008 by OpenSSL, that stays and says whatever its owner wants, frame by frame. */
export class MeshSession {
  readonly frames: TunnelFrame[] = [];
  data = '';
  readonly #child: Bun.Subprocess<'pipe', 'pipe', 'pipe'>;

  constructor(options: {
    readonly from: TestHost;
    readonly to: TestHost;
    readonly serverName: string;
    readonly shown: ShownFiles;
    /** More options of `openssl s_client`. */
    readonly options?: readonly string[];
  }) {
    const { from, to, serverName, shown, options: more = [] } = options;
    const tls = ['-tls1_3', '-alpn', 'picket/1', '-quiet', '-no_ign_eof', '-servername', serverName];
    const own = ['-cert', shown.leafFile, '-key', shown.keyFile, '-cert_chain', shown.othersFile];
    const command = ['openssl', 's_client', '-connect', `${to.ipv4}:15008`, ...tls, ...own, ...more];
    this.#child = Bun.spawn(from.in(...command), {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'pipe',
      timeout: 60_000,
    });
    void this.#read();
  }

  get isOpen(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The types of all frames that came. */
  get types(): readonly string[] {
    return this.frames.map(({ type }) => type);
  }

  say(bytes: Uint8Array): void {
    void this.#child.stdin.write(bytes);
    void this.#child.stdin.flush();
  }

  sayData(text: string): void {
    const bytes = Buffer.alloc(4 + text.length, text.padStart(4 + text.length, '\0'), 'latin1');
    writeDataHeader(bytes, 0, text.length);
    this.say(bytes);
  }

  sayEnd(): void {
    this.say(encodeFrame({ type: 'end' }));
  }

  /** Waits for so many frames of a type; the last of them. */
  async frame(type: TunnelFrame['type'], count = 1): Promise<TunnelFrame> {
    return await waitUntil(`${count} ${type} frames come (${this.types.join(' ')})`, () => {
      const found = this.frames.filter((frame) => frame.type === type);
      return found.length >= count && found[count - 1];
    });
  }

  async says(text: string): Promise<void> {
    await waitUntil(`the other side says ${text}`, () => this.data.includes(text));
  }

  async close(): Promise<void> {
    this.#child.kill();
    await this.#child.exited;
  }

  async #read(): Promise<void> {
    const decoder = new FrameDecoder();
    const onFrame = (frame: TunnelFrame): void => void this.frames.push(frame);
    const onData = (bytes: Uint8Array, start: number, end: number): void =>
      void (this.data += Buffer.from(bytes.subarray(start, end)).toString('latin1'));
    for await (const bytes of this.#child.stdout) decoder.decode(bytes, { onFrame, onData });
  }
}
