import { join } from 'node:path';
import { Child, runOk } from './child.ts';
import type { TestNetwork } from './netns.ts';

export interface LineQuality {
  /** From one host to another; the answer takes as long again. */
  readonly oneWayMs: number;
  /** Of the frames from one host to another, about. */
  readonly lossPercent: number;
}

const PYTHON = '/usr/bin/python3';
const RELAY = join(import.meta.dirname, 'frame-relay.py');

/** Long lines between the hosts of a network. A program of ours carries the frames (frame-relay.py): it needs no netem of the kernel. */
export class LongLines {
  readonly #network: TestNetwork;
  readonly #logFile: string;
  /** Interfaces beside the bridge, the end of each host's line and its plug in the bridge by turns. */
  readonly #ends: readonly string[];
  #relay: Child | undefined;

  private constructor(
    network: TestNetwork,
    parts: { readonly logFile: string; readonly ends: readonly string[] },
  ) {
    this.#network = network;
    this.#logFile = parts.logFile;
    this.#ends = parts.ends;
  }

  /** Takes every host off the bridge: nothing passes until `carry`. Whoever asks for it stops it before the network is removed. */
  static async open(network: TestNetwork, { folder }: { readonly folder: string }): Promise<LongLines> {
    const { hosts, bridge } = network;
    const ends: string[] = [];
    for (const [i, host] of hosts.entries()) {
      const [near, far, plug] = [`port${i + 1}`, `far${i + 1}`, `plug${i + 1}`];
      const lines = [
        `link set ${near} nomaster`,
        `link add ${far} type veth peer name ${plug}`,
        `link set ${plug} master br0`,
        `link set ${far} up`,
        `link set ${plug} up`,
      ];
      await runOk(bridge.in('ip', '-batch', '-'), { stdin: `${lines.join('\n')}\n` });
      await host.runOk(PYTHON, RELAY, '--plain', 'eth0');
      await bridge.runOk(PYTHON, RELAY, '--plain', plug);
      ends.push(near, far);
    }
    return new LongLines(network, { logFile: join(folder, 'frame-relay.log'), ends });
  }

  /** From now on the lines are like that. */
  async carry({ oneWayMs, lossPercent }: LineQuality): Promise<void> {
    await this.stop();
    // Half of the way is the line of the one host, half that of the other.
    const half = [oneWayMs / 2, lossPercent / 2].map(String);
    const relay = new Child({
      command: this.#network.bridge.in(PYTHON, RELAY, ...half, ...this.#ends),
      logFile: this.#logFile,
    });
    this.#relay = relay;
    await relay.ready('frames are carried', () => relay.log().endsWith(`carrying ${half.join(' ')}\n`));
  }

  /** Ends what carries the frames: the hosts are apart. */
  async stop(): Promise<void> {
    await this.#relay?.stop();
    this.#relay = undefined;
  }
}
