import { PicketError } from '../../shared/errors/errors.ts';
import type { CaptureSettings } from './capture.ts';
import type { UserRange } from '../subordinate-users/subordinate-users.ts';
import { parseCidr, withoutNested, type Cidr } from './cidr.ts';

/** Capture settings that were checked: every value may be written into a rule as it is. */
export interface ResolvedSettings {
  readonly ports: CaptureSettings['ports'];
  readonly mark: number;
  readonly agentUid: number;
  readonly inboundPorts: readonly number[];
  readonly outboundPorts: readonly number[];
  readonly outboundAddresses: readonly Cidr[];
  readonly users: readonly number[];
  readonly allowUdp: readonly { readonly network: Cidr; readonly port: number }[];
  /** Whom every program of this host may ask by UDP and TCP. */
  readonly resolvers: readonly { readonly network: Cidr; readonly port: number }[];
  readonly decidesUdp: boolean;
  /** Ranges of users, by owner. */
  readonly userRanges: readonly (readonly UserRange[])[];
  /** Single addresses, and networks of them. */
  readonly namespaceAddresses: readonly Cidr[];
  /** Without the ports that are excluded inbound: an exclusion holds on loopback too. */
  readonly localPorts: readonly number[];
  /** `ports` is as `TransparentPorts.steered`: empty where nobody asks for it. */
  readonly transparent: { readonly id: number; readonly ports: readonly number[] };
}

/** Where listeners ask for connections from callers' addresses. */
export interface TransparentPorts {
  /** Those that the rules can have. */
  readonly steered: readonly number[];
  /** Those that they leave alone, where such connections are refused: excluded inbound, or the agent's own. What the agent sends from its own ports must leave the host. */
  readonly leftAlone: readonly number[];
}

/** The most members of each list: a mistake or an attack upstream must not become a rule set that the kernel refuses or crawls through. */
const MAX_LIST = 1024;
const MAX_U32 = 0xffff_ffff;

/** Checks settings and puts their lists in order, so that equal settings make equal rules. Throws `invalid_argument`, reason `capture_settings_invalid` or `cidr_invalid`. */
export function resolveSettings(settings: CaptureSettings): ResolvedSettings {
  const { ports, exclude } = settings;
  const agentPorts = portList('ports', [ports.outbound, ports.inbound, ports.mesh]);
  if (agentPorts.length !== 3) throw invalid('the three ports of the agent must differ');
  requireInteger('mark', settings.mark, { from: 1, to: MAX_U32 });
  requireInteger('agentUid', settings.agentUid ?? 0, { from: 0, to: MAX_U32 - 1 });
  const inboundPorts = portList('exclude.inboundPorts', exclude.inboundPorts);
  if (inboundPorts.some((port) => agentPorts.includes(port)))
    throw invalid('exclude.inboundPorts names a port of the agent');
  return {
    ports,
    mark: settings.mark,
    agentUid: settings.agentUid ?? 0,
    inboundPorts,
    outboundPorts: portList('exclude.outboundPorts', exclude.outboundPorts),
    outboundAddresses: withoutNested(
      bounded('exclude.outboundAddresses', exclude.outboundAddresses).map(parseCidr),
    ),
    users: numberList('exclude.users', exclude.users, { from: 0, to: MAX_U32 - 1 }),
    allowUdp: endpointList('allowUdp', settings.allowUdp),
    resolvers: endpointList('resolvers', settings.resolvers ?? []),
    decidesUdp: settings.decidesUdp === true,
    userRanges: rangesByOwner(settings.userRanges ?? []),
    namespaceAddresses: withoutNested(
      bounded('namespaceAddresses', settings.namespaceAddresses ?? []).map(parseCidr),
    ),
    localPorts: portList('localPorts', settings.localPorts).filter((port) => !inboundPorts.includes(port)),
    transparent: resolveTransparent(settings),
  };
}

/** Throws as `resolveSettings`. */
export function splitTransparentPorts({
  ports: { outbound, inbound, mesh },
  exclude,
  transparentPorts = [],
}: Pick<CaptureSettings, 'ports' | 'exclude' | 'transparentPorts'>): TransparentPorts {
  const avoided = new Set([outbound, inbound, mesh, ...exclude.inboundPorts]);
  const asked = portList('transparentPorts', transparentPorts);
  return {
    steered: asked.filter((port) => !avoided.has(port)),
    leftAlone: asked.filter((port) => avoided.has(port)),
  };
}

function resolveTransparent(settings: CaptureSettings): ResolvedSettings['transparent'] {
  const { steered } = splitTransparentPorts(settings);
  const id = settings.transparentId ?? 0;
  if (steered.length > 0) requireInteger('transparentId', id, TRANSPARENT_ID);
  if (id === settings.mark)
    throw invalid('transparentId must not be the mark of the agent’s own connections');
  return { id, ports: steered };
}

/** Above the routing tables that the kernel has names for, and within what a zone of connection tracking may be. */
const TRANSPARENT_ID = { from: 256, to: 65_535 };
function endpointList(
  name: string,
  endpoints: CaptureSettings['allowUdp'],
): readonly { readonly network: Cidr; readonly port: number }[] {
  return bounded(name, endpoints).map(({ address, port }) => {
    requireInteger(`${name}.port`, port, PORT);
    return { network: parseCidr(address), port };
  });
}

function rangesByOwner(ranges: readonly UserRange[]): readonly (readonly UserRange[])[] {
  for (const { first, last } of bounded('userRanges', ranges)) {
    requireInteger('userRanges.first', first, { from: 0, to: MAX_U32 - 1 });
    requireInteger('userRanges.last', last, { from: first, to: MAX_U32 - 1 });
  }
  return [...Map.groupBy(ranges, ({ owner }) => owner).values()];
}

const PORT = { from: 1, to: 65_535 };

function portList(name: string, ports: readonly number[]): number[] {
  return numberList(name, ports, PORT);
}

function numberList(name: string, numbers: readonly number[], range: typeof PORT): number[] {
  for (const number of bounded(name, numbers)) requireInteger(name, number, range);
  return Array.from(new Set(numbers)).toSorted((a, b) => a - b);
}

function bounded<T>(name: string, list: readonly T[]): readonly T[] {
  if (list.length > MAX_LIST) throw invalid(`${name} has more than ${MAX_LIST} members`);
  return list;
}

function requireInteger(name: string, value: number, range: typeof PORT): void {
  if (Number.isInteger(value) && value >= range.from && value <= range.to) return;
  throw invalid(`${name} must be a whole number from ${range.from} to ${range.to}, not ${value}`);
}

function invalid(why: string): PicketError {
  return new PicketError('invalid_argument', 'capture_settings_invalid', `Cannot capture traffic: ${why}`);
}
