import type { CapturePorts } from '../../capture/capture.ts';
import { createHboneDialer, type HboneDialerOptions } from '../hbone/dialer.ts';
import type { MeshDialerLimits, MeshDialerOptions } from './dialer-options.ts';
import { createMeshDialer } from './dialer.ts';
import type { MeshDialer } from './mesh.ts';

/** The two ways to another host, by what it speaks there: our own tunnel, or HBONE with those of another mesh. */
export class MeshDialers implements MeshDialer {
  readonly #tunnels: ReturnType<typeof createMeshDialer>;
  readonly #hbone: ReturnType<typeof createHboneDialer>;

  constructor(
    options: Omit<MeshDialerOptions, 'limits' | 'meshPort'> &
      HboneDialerOptions & { readonly ports: CapturePorts; readonly dialerLimits: Partial<MeshDialerLimits> },
  ) {
    const { ports, dialerLimits } = options;
    this.#tunnels = createMeshDialer({ ...options, limits: dialerLimits, meshPort: ports.mesh });
    this.#hbone = createHboneDialer(options);
  }

  /** Connections to other hosts, in use or not. */
  get connections(): number {
    return this.#tunnels.connections + this.#hbone.connections;
  }

  /** As `MeshListener.leavingConnections`. */
  get leavingConnections(): number {
    return this.#tunnels.leavingConnections + this.#hbone.leavingConnections;
  }

  readonly open: MeshDialer['open'] = async (request) =>
    await (request.transport === 'hbone' ? this.#hbone : this.#tunnels).open(request);

  /** Makes none of its own accord; what is open goes on, and ends once it carries nothing. */
  drain(): void {
    for (const each of [this.#tunnels, this.#hbone]) each.drain();
  }

  reconsiderAll(): void {
    for (const each of [this.#tunnels, this.#hbone]) each.reconsiderAll();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#tunnels.stop(), this.#hbone.stop()]);
  }
}
