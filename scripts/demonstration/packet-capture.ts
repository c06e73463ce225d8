import { join } from 'node:path';
import { Child, runOk } from '../../tests/kit/child.ts';

/** What went over the wire between two hosts. */
export interface WireSummary {
  readonly packets: number;
  /** Destination ports of connections that were opened. */
  readonly ports: readonly number[];
  /** TLS records that were recognised. */
  readonly tlsPackets: number;
  /** Whether any of the words stood in any packet. */
  readonly hasPlaintext: boolean;
}

/** tcpdump on a host's interface. */
export class PacketCapture {
  readonly #file: string;
  readonly #tcpdump: Child;

  private constructor(file: string, tcpdump: Child) {
    this.#file = file;
    this.#tcpdump = tcpdump;
  }

  /** Records what `command` (a prefix that enters the host's network) sees on eth0 to and from `peer`. */
  static async start(
    inHost: (...command: string[]) => string[],
    options: { readonly folder: string; readonly peer: string },
  ): Promise<PacketCapture> {
    const file = join(options.folder, 'wire.pcap');
    const tcpdump = new Child({
      // Otherwise the kernel keeps packets for a second, and loses those at the end: all of them, where everything took no longer.
      command: inHost(
        'tcpdump',
        '--immediate-mode',
        '-i',
        'eth0',
        '-U',
        '-w',
        file,
        'tcp and host',
        options.peer,
      ),
      logFile: join(options.folder, 'tcpdump.log'),
    });
    await tcpdump.ready('tcpdump listens', () => tcpdump.log().includes('listening on'));
    return new PacketCapture(file, tcpdump);
  }

  /** Ends the recording and looks for `words` in it. */
  async finish(words: readonly string[]): Promise<WireSummary> {
    await this.#tcpdump.stop('SIGINT');
    const opened = await this.#read('tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn');
    const all = await this.#read('');
    const tls = await this.#read(
      'tcp[((tcp[12] & 0xf0) >> 2):1] >= 20 and tcp[((tcp[12] & 0xf0) >> 2):1] <= 23',
    );
    const bytes = await Bun.file(this.#file).bytes();
    return {
      packets: all.length,
      ports: [...new Set(opened.map(destinationPort))].toSorted((a, b) => a - b),
      tlsPackets: tls.length,
      hasPlaintext: words.some((word) => Buffer.from(bytes).includes(word)),
    };
  }

  async #read(filter: string): Promise<readonly string[]> {
    const text = await runOk(['tcpdump', '-nn', '-r', this.#file, ...(filter === '' ? [] : [filter])]);
    return text.split('\n').filter((line) => line !== '');
  }
}

/** From `… > 10.9.0.2.15008: Flags …`. */
function destinationPort(line: string): number {
  return Number(/> \S+\.(\d+):/.exec(line)?.[1] ?? 0);
}
