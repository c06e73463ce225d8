import { join } from 'node:path';
import { Child } from './child.ts';
import { waitUntil } from './wait.ts';

export interface DnsServerOptions {
  /** A folder of its own. */
  readonly folder: string;
  /** Where it answers. */
  readonly address: string;
  readonly port: number;
  /** Addresses of both families by name; any other name does not exist. */
  readonly records: Readonly<Record<string, readonly string[]>>;
  /** Of the answers, seconds. */
  readonly ttl?: number;
  /** The words that come before the program, such as those that enter a network namespace. */
  readonly within?: (...command: readonly string[]) => readonly string[];
}

/** dnsmasq with names of its own and nothing else. */
export class DnsServer {
  readonly #child: Child;

  private constructor(child: Child) {
    this.#child = child;
  }

  static async start(options: DnsServerOptions): Promise<DnsServer> {
    const { folder, address, port, records, ttl = 0, within = (...command) => command } = options;
    const hosts = Object.entries(records).map(
      ([name, addresses]) => `--host-record=${[name, ...addresses].join(',')},${ttl}`,
    );
    const child = new Child({
      command: within(
        'dnsmasq',
        '--keep-in-foreground',
        '--conf-file=/dev/null',
        '--no-resolv',
        '--no-hosts',
        '--bind-interfaces',
        `--listen-address=${address}`,
        `--port=${port}`,
        '--pid-file=',
        '--user=root',
        '--log-queries',
        '--log-facility=-',
        ...hosts,
      ),
      logFile: join(folder, 'dnsmasq.log'),
    });
    const server = new DnsServer(child);
    await waitUntil('the DNS server answers', () => {
      if (!child.isRunning) throw new Error(`dnsmasq ended: ${child.log()}`);
      return child.log().includes('started');
    });
    return server;
  }

  /** Names that were asked for, in order, as often as they were. */
  get asked(): readonly string[] {
    return Array.from(this.#child.log().matchAll(/query\[A+\] (\S+) from/g), ([, name]) => name ?? '');
  }

  async stop(): Promise<void> {
    await this.#child.stop();
  }
}
