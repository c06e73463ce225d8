import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { MeshHandshake, MeshObserver } from './mesh.ts';

export interface MeshLossesOptions {
  readonly side: MeshHandshake['side'];
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: MeshObserver | undefined;
}

/** An agent that dies breaks all its connections at once: one line tells of all that break within this time, in milliseconds. */
const TELL_TOGETHER_MS = 1000;

/** Tells of connections between agents that broke while they carried something: the other agent died, or the network between. */
export class MeshLosses {
  readonly #options: MeshLossesOptions;
  /** By the address of the other host: how many connections, and how the first of them broke. */
  #untold = new Map<string, { connections: number; readonly why: string }>();

  constructor(options: MeshLossesOptions) {
    this.#options = options;
  }

  broke(peer: string, why: string): void {
    const { clock, observer, side } = this.#options;
    observer?.broke(side);
    if (this.#untold.size === 0) clock.schedule(TELL_TOGETHER_MS, () => this.#tell());
    const known = this.#untold.get(peer);
    if (known === undefined) this.#untold.set(peer, { connections: 1, why });
    else known.connections += 1;
  }

  #tell(): void {
    const { log, side } = this.#options;
    for (const [peer, { connections, why }] of this.#untold)
      log.warn('mesh_connections_broke', { side, peer, connections, why });
    this.#untold = new Map();
  }
}
