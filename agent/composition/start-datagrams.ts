import { randomUUID } from 'node:crypto';
import { toPicketError } from '../../shared/errors/errors.ts';
import { MovableSpool } from '../audit/movable-spool.ts';
import { startShipper } from '../audit/shipper.ts';
import { asideFolder } from '../audit/spool-place.ts';
import type { AccessRecorder } from '../audit/access-recorder.ts';
import type { DatagramGate } from '../capture/datagram-gate.ts';
import { EnclosedDatagramGate } from '../capture/enclosed-datagram-gate.ts';
import { InterfacesToNamespaces } from '../capture/interfaces-to-namespaces.ts';
import { NftDatagramGate } from '../capture/nft-datagram-gate.ts';
import { decidesDatagrams } from '../config/decides-datagrams.ts';
import type { NamespaceListener } from '../namespaces/namespace-place.ts';
import { findNamespaceId, readInterfacesByNamespace } from '../native/namespace-routes.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import { openUdpSearch, type UdpSearch } from '../native/udp-search.ts';
import { Datagrams } from '../proxy/datagrams/datagrams.ts';
import { SubordinateUsers } from '../subordinate-users/subordinate-users.ts';
import { countLanes } from '../workers/count-workers.ts';
import { laneDirectory } from '../workers/worker-lanes.ts';
import type { AgentBase } from './agent-base.ts';
import type { Carrier } from '../handover/carrier.ts';
import { CarrierHere } from './carrier-here.ts';
import { openAuthorizer } from './data-path.ts';
import type { Knowledge } from './open-knowledge.ts';

/** Decides on UDP that leaves this host from now on; undefined where nobody does. */
export function startDatagrams(
  base: AgentBase,
  { recorder, ...parts }: Knowledge & { readonly recorder: AccessRecorder },
): Datagrams | undefined {
  const { config, predecessor, denials, metrics, clock, log } = base;
  if (!decidesDatagrams(config)) return undefined;
  const { manager, holder, users, directory, processes, quarantine } = parts;
  const { enforcement } = manager.known;
  const interfaces = new InterfacesToNamespaces({
    findId: findNamespaceId,
    readAll: readInterfacesByNamespace,
    clock,
  });
  const search = openSearch(base);
  const datagrams = new Datagrams({
    gateOf: ({ namespace }) => openGate(base, { namespace, interfaces, search }),
    whenAlone: predecessor && ((listener) => predecessor.whenRetired(listener)),
    maxFlows: config.limits.udpFlows,
    userParties: new SubordinateUsers({ clock, log }),
    authorizer: openAuthorizer({ config, policy: holder.policy, enforcement, users, clock, log }),
    directory,
    processes,
    identities: manager,
    quarantine,
    recorder,
    queries: config.audit.queries,
    denials,
    observer: metrics,
    newId: () => randomUUID(),
    clock,
    log,
  });
  base.add('datagrams', datagrams);
  base.parts.datagrams = datagrams;
  return datagrams;
}

/** Undefined where the kernel or the agent's privileges do not allow it: a user whose port many sockets of others share has no UDP there. */
function openSearch({ shutdown, log }: AgentBase): UdpSearch | undefined {
  try {
    const search = openUdpSearch();
    shutdown.add('udp search', () => search.close());
    return search;
  } catch (error) {
    log.warn('udp_search_unavailable', { error: toPicketError(error) });
    return undefined;
  }
}

function openGate(
  { config, namespaces, clock }: AgentBase,
  {
    namespace,
    interfaces,
    search,
  }: {
    readonly namespace: NetworkNamespace | undefined;
    readonly interfaces: InterfacesToNamespaces;
    readonly search: UdpSearch | undefined;
  },
): DatagramGate {
  const { mark } = config.capture;
  if (namespace === undefined) return new NftDatagramGate({ mark, crowds: search });
  const isItsAddress = (address: string): boolean => {
    const found = namespaces?.findAt(address);
    return found?.kind === 'captured' && found.namespace === namespace;
  };
  return new EnclosedDatagramGate({ namespace, mark, isItsAddress, interfaces, clock });
}

interface Listening {
  /** Without sockets at which others connect, nothing can be broken. */
  listenIn(namespace: NetworkNamespace): Pick<NamespaceListener, 'stop'> & Partial<NamespaceListener>;
}

/** Takes what the programs of a namespace connect to, and what they send. */
export function listenToAll(
  namespace: NetworkNamespace,
  listeners: readonly (Listening | undefined)[],
): NamespaceListener {
  const listening = listeners.flatMap((each) => each?.listenIn(namespace) ?? []);
  return {
    get isBroken() {
      return listening.some(({ isBroken = false }) => isBroken);
    },
    stop: () => {
      for (const each of listening) each.stop();
    },
  };
}

/** UDP where workers carry the connections: the agent itself decides on it, and writes it down in a lane behind theirs. */
export interface DatagramLane {
  /** As `startDatagrams`. */
  start(): Datagrams | undefined;
  /** Ships what is recorded from now on, and lets another process take over. Called once, after `start`. */
  ship(): Carrier;
}

/** Opens the lane; undefined where nobody decides on UDP. Throws as `MovableSpool`. */
export function openDatagramLane(base: AgentBase, parts: Knowledge): DatagramLane | undefined {
  const { config, workers, shutdown, clock, log } = base;
  const { audit } = config;
  if (!decidesDatagrams(config)) return undefined;
  const spool = new MovableSpool({
    ...audit,
    directory: laneDirectory(audit.directory, workers),
    asideFolder: asideFolder(audit.directory),
    maxBytes: Math.floor(audit.maxBytes / countLanes(config)),
    clock,
    log,
  });
  shutdown.add('spool', async () => await spool.close());
  base.parts.queue = spool;
  const { api } = parts.identity;
  const send = api.sendAudit.bind(api);
  const carried: Datagrams[] = [];
  return {
    start: () => {
      const datagrams = startDatagrams(base, { ...parts, recorder: spool });
      if (datagrams !== undefined) carried.push(datagrams);
      return datagrams;
    },
    ship: () =>
      new CarrierHere({
        carried,
        spool,
        ship: (held) => startShipper({ spool: held, send, clock, random: Math.random, log }),
        clock,
      }),
  };
}
