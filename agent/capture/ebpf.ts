import type { Steering } from '../native/steering.ts';
import type { SteeringSettings } from '../native/steering-sets.ts';
import type { CaptureSettings } from './capture.ts';
import { cannotTry, type NftCapture } from './nft.ts';
import { resolveSettings } from './resolved-settings.ts';
import type { TryableCapture } from './tryable-capture.ts';

export interface EbpfOptions {
  readonly steering: Steering;
  /** The folder in which the programs are pinned. */
  readonly folder: string;
  /** With `outbound: 'programs'`. */
  readonly rules: NftCapture;
  /** The addresses of this host's interfaces. */
  readonly ownAddresses: () => readonly string[];
}

/** Takes away what is pinned in a folder, then runs the rest. */
const RESTORE = 'rm -rf -- "$1"/*; rmdir -- "$1"; shift; exec "$@"';

/**
 * Capture by programs that run at connect(2) and sendmsg(2), with nftables as the guard: what comes in is steered by rules, since no program runs where a packet
 * becomes a connection of another listener; and every packet is looked at by rules, since a program sees no connection that is older than it, no socket
 * of another cgroup, and no raw one. So where the programs do not get a connection, or somebody takes them away, it is refused.
 */
export class EbpfCapture implements TryableCapture {
  readonly backend = 'ebpf';
  readonly #options: EbpfOptions;

  constructor(options: EbpfOptions) {
    this.#options = options;
  }

  async apply(settings: CaptureSettings): Promise<void> {
    this.#steer(settings);
    await this.#options.rules.apply(settings);
  }

  async applyUntilReboot(settings: CaptureSettings): Promise<void> {
    this.#steer(settings);
    await this.#options.rules.applyUntilReboot(settings);
  }

  async keep(): Promise<void> {
    await this.#options.rules.keep();
  }

  isOwn(pid: number): boolean {
    return this.#options.rules.isOwn(pid);
  }

  /** Has the programs told the host's addresses by the way: a change may have been missed. */
  async isIntact(): Promise<boolean> {
    const { steering, rules } = this.#options;
    if (!steering.isIntact()) return false;
    this.followAddresses();
    return await rules.isIntact();
  }

  /** Tells the programs which addresses the host has now. */
  followAddresses(): void {
    const { steering, ownAddresses } = this.#options;
    steering.setOwnAddresses(ownAddresses());
  }

  async show(): Promise<string> {
    const { steering, rules, folder } = this.#options;
    const programs = steering.describe();
    return `${programs === '' ? '' : `programs pinned in ${folder}:\n${programs}`}${await rules.show()}`;
  }

  async buildRestoreScript(): Promise<string> {
    if (this.#options.steering.isThere) throw cannotTry();
    return await this.#options.rules.buildRestoreScript();
  }

  restoreCommand(path: string): readonly string[] {
    const { folder, rules } = this.#options;
    return ['/bin/sh', '-c', RESTORE, 'picket-capture-restore', folder, ...rules.restoreCommand(path)];
  }

  /** The guard goes last. */
  async remove(): Promise<void> {
    this.#options.steering.remove();
    await this.#options.rules.remove();
  }

  /** First the programs: the rules of the other backend refuse what they steer, and let nothing past. */
  #steer(settings: CaptureSettings): void {
    const { steering, ownAddresses } = this.#options;
    steering.install(steeringSettings(settings), ownAddresses());
  }
}

/** The settings as the programs know them. Throws like `resolveSettings`. */
export function steeringSettings(settings: CaptureSettings): SteeringSettings {
  const resolved = resolveSettings(settings);
  const { ports, mark, users, outboundPorts, localPorts, outboundAddresses, allowUdp, resolvers } = resolved;
  return {
    ports,
    mark,
    passesUdp: resolved.decidesUdp,
    numbers: [
      ...users.map((number) => ({ kind: 'user' as const, number })),
      ...outboundPorts.map((number) => ({ kind: 'outboundPort' as const, number })),
      ...localPorts.map((number) => ({ kind: 'localPort' as const, number })),
    ],
    networks: [
      ...outboundAddresses.map((network) => ({ kind: 'tcp' as const, ...network, port: 0 })),
      ...resolvers.map(({ network, port }) => ({ kind: 'tcp' as const, ...network, port })),
      ...[...allowUdp, ...resolvers].map(({ network, port }) => ({ kind: 'udp' as const, ...network, port })),
    ],
  };
}
