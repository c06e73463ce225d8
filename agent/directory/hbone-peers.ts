import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { canonicalAddress } from './host-address.ts';

/** A workload of another mesh, as the agent's configuration names it. The peer has no say in it. */
export interface HbonePeer {
  readonly addresses: readonly string[];
  /** Undefined: every port. */
  readonly ports?: readonly number[] | undefined;
  /** Who must answer there. */
  readonly spiffeId: SpiffeId;
}

/** Who answers at the addresses of other meshes. An address with a peer is never spoken to in plaintext, whatever the port. */
export class HbonePeers {
  readonly #byAddress = new Map<string, HbonePeer[]>();

  constructor(peers: readonly HbonePeer[]) {
    for (const peer of peers)
      for (const address of peer.addresses) {
        const key = canonicalAddress(address) ?? address;
        this.#byAddress.set(key, [...(this.#byAddress.get(key) ?? []), peer]);
      }
  }

  /** `unnamed`: an address with a peer, and none for that port. `hasHboneClash` says whether more than one could be meant. */
  find(address: string, port: number): SpiffeId | 'unnamed' | undefined {
    const peers = this.#byAddress.get(address);
    if (peers === undefined) return undefined;
    return peers.find(({ ports }) => ports?.includes(port) !== false)?.spiffeId ?? 'unnamed';
  }
}

/** Whether two identities are named for one address and port. */
export function hasHboneClash(peers: readonly Pick<HbonePeer, 'addresses' | 'ports'>[]): boolean {
  const seen = new Map<string, Set<number>>();
  for (const { addresses, ports } of peers)
    for (const address of new Set(addresses.map((each) => canonicalAddress(each) ?? each))) {
      const taken = seen.get(address) ?? new Set();
      seen.set(address, taken);
      for (const port of new Set(ports ?? [EVERY_PORT])) {
        const isTaken = taken.has(port) || taken.has(EVERY_PORT) || (port === EVERY_PORT && taken.size > 0);
        if (isTaken) return true;
        taken.add(port);
      }
    }
  return false;
}

const EVERY_PORT = 0;
