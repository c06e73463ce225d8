import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { AgentConfig } from '../config/config.ts';
import { HbonePeers } from '../directory/hbone-peers.ts';
import type { OwnAddresses } from '../directory/own-addresses.ts';
import { RegisteredDirectory } from '../directory/registered-directory.ts';
import type { Namespaces } from '../namespaces/namespaces.ts';
import type { KnownParts } from '../server-link/known-parts.ts';

/** What the server told of who answers where. */
export interface DirectoryTold {
  readonly known: Pick<KnownParts, 'directory' | 'entries' | 'services' | 'places'>;
  /** The SPIFFE ID of this host's agent. */
  readonly nodeId: SpiffeId | undefined;
}

/** Opens the directory as the server tells it and the configuration adds to it: in the agent and in each of its workers the same. */
export function openDirectory(options: {
  readonly config: Pick<AgentConfig, 'mesh'>;
  readonly told: DirectoryTold;
  readonly addresses: OwnAddresses;
  /** Undefined where the host's own is captured alone. */
  readonly namespaces?: Namespaces | undefined;
  readonly log: Log;
}): RegisteredDirectory {
  const { config, told, addresses, namespaces, log } = options;
  const { known } = told;
  return new RegisteredDirectory({
    records: known.directory,
    entries: known.entries,
    services: known.services,
    places: known.places,
    ownNode: () => told.nodeId,
    hbonePeers: new HbonePeers(config.mesh.hbone.peers),
    isOwnAddress: (address) => addresses.has(address),
    ...(namespaces === undefined ? {} : { namespaces }),
    log,
  });
}
