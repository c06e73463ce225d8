import { readFileSync } from 'node:fs';
import { toPicketError, type PicketError } from '../../shared/errors/errors.ts';
import { findCgroupMount } from '../native/cgroup.ts';
import { HostNamespaces } from '../namespaces/host-namespaces.ts';
import type { NamespaceSettings } from '../namespaces/namespace-source.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import { openTableJournal, readRulesetGeneration } from '../native/nftables.ts';
import { countElementTransactions } from '../native/nftables-elements.ts';
import { ReturnRoutes } from '../native/return-routes.ts';
import { readNetnsCookie } from '../native/netns-cookie.ts';
import { Steering } from '../native/steering.ts';
import type { SteeringRecord } from '../native/steering-maps.ts';
import type { BackendChoice, Capture, CaptureBackend } from './capture.ts';
import { EbpfCapture, steeringSettings } from './ebpf.ts';
import { NFT_TABLE_NAME } from './nft-rules.ts';
import { NftCapture, type NftOptions } from './nft.ts';
import type { TryableCapture } from './tryable-capture.ts';

export interface CaptureChoice {
  readonly backend: BackendChoice;
  /** The folder of programs, in a BPF file system. */
  readonly bpfFolder: string;
  /** The cgroup whose programs are captured; undefined: all. */
  readonly cgroup: string | undefined;
  /** Captured connections that are remembered at once. */
  readonly maxRecords: number;
}

export interface OpenCaptureOptions extends CaptureChoice {
  /** As `CaptureSettings.transparentId`. */
  readonly transparentId: number;
  readonly nft?: NftOptions;
  readonly ownerUid: number;
  /** The addresses of this host's interfaces. */
  readonly ownAddresses: () => readonly string[];
}

/** The capture that was chosen, and what both backends know. */
export interface ChosenCapture {
  readonly capture: TryableCapture;
  /** Why it is not eBPF, where that was to be found out. */
  readonly whyNot: PicketError | undefined;
  /** What was written down when a connection was steered by a program. */
  readonly findRecord: (cookie: bigint) => SteeringRecord | undefined;
  /** To be called when the host's addresses have changed. It throws as `Steering.setOwnAddresses`. */
  readonly followAddresses: () => void;
}

/** Where cgroups are mounted nearly everywhere. */
const USUAL_CGROUP = '/sys/fs/cgroup';

/** Opens the capture that the configuration chooses. It throws nothing: what cannot be used is told by `apply`. */
export function openCapture(options: OpenCaptureOptions): ChosenCapture {
  const steering = openSteering(options);
  const whyNot = options.backend === 'auto' ? findObstacle(steering) : undefined;
  const backend: CaptureBackend =
    options.backend === 'auto' ? (whyNot === undefined ? 'ebpf' : 'nftables') : options.backend;
  const capture = open(backend, { ...options, steering });
  return {
    capture,
    whyNot,
    findRecord: (cookie) => steering.findRecord(cookie),
    followAddresses: () => {
      if (capture instanceof EbpfCapture) capture.followAddresses();
    },
  };
}

/** Looks at what capture needs, and at what is installed, without changing anything. */
export interface CaptureProbe extends Pick<NftCapture, 'tryOut' | 'listChains'> {
  /** As `Capture.show`, by whichever adapter. */
  show(): Promise<string>;
  /** What the programs lack on this kernel; undefined where they can be used. */
  findObstacle(): PicketError | undefined;
}

/** Opens the probe for a configuration. */
export function probeCapture(options: OpenCaptureOptions): CaptureProbe {
  const steering = openSteering(options);
  const shown = open('ebpf', { ...options, steering });
  const rules = new NftCapture({
    ...options.nft,
    outbound: options.backend === 'ebpf' ? 'programs' : 'redirect',
  });
  return {
    show: async () => await shown.show(),
    tryOut: async (settings) => await rules.tryOut(settings),
    listChains: async () => await rules.listChains(),
    findObstacle: () => findObstacle(steering),
  };
}

/** Opens the capture of another namespace of this host. It throws nothing, as `openCapture`. */
export type OpenEnclosedCapture = (namespace: NetworkNamespace) => Capture;

/** Capture by nftables, which is run within the namespace. */
export function openEnclosedCapture(namespace: NetworkNamespace): Capture {
  return new NftCapture({
    command: ['nsenter', `--net=${namespace.path}`, 'nft'],
    openJournal: () => openTableJournal({ table: NFT_TABLE_NAME, namespace }),
    readGeneration: () => readRulesetGeneration({ namespace }) - countElementTransactions({ namespace }),
    outbound: 'enclosed',
  });
}

/** Takes the rules out of those namespaces of a configuration that are there, however many. Throws as `NetworkNamespace.open` and `Capture.remove`, for the first that it cannot do it for. */
export async function removeFromNamespaces({ named, patterns }: NamespaceSettings): Promise<void> {
  const source = new HostNamespaces({
    named,
    patterns: patterns.map((each) => ({ ...each, most: Infinity })),
  });
  for (const { declared, sight } of source.look()) {
    if (sight.kind === 'failed') throw sight.error;
    if (sight.kind === 'absent') continue;
    const { name, path } = declared;
    using namespace = NetworkNamespace.open(name, path);
    await openEnclosedCapture(namespace).remove();
  }
}

function openSteering({ bpfFolder, cgroup, maxRecords, ownerUid }: OpenCaptureOptions): Steering {
  return new Steering({
    folder: bpfFolder,
    cgroup: cgroup ?? findCgroupMount(readMounts()) ?? USUAL_CGROUP,
    maxRecords,
    ownerUid,
    netnsCookie: readNetnsCookie,
  });
}

function open(
  backend: CaptureBackend,
  {
    steering,
    nft,
    bpfFolder,
    transparentId,
    ownAddresses,
  }: OpenCaptureOptions & { readonly steering: Steering },
): TryableCapture {
  const returnPath = new ReturnRoutes(transparentId);
  if (backend === 'nftables') return new NftCapture({ ...nft, leftOver: steering, returnPath });
  const rules = new NftCapture({ ...nft, outbound: 'programs', returnPath });
  return new EbpfCapture({ steering, rules, folder: bpfFolder, ownAddresses });
}

function findObstacle(steering: Steering): PicketError | undefined {
  try {
    steering.tryOut(steeringSettings(SOME_SETTINGS));
    return undefined;
  } catch (error) {
    return toPicketError(error);
  }
}

/** With something in each list. */
const SOME_SETTINGS = {
  ports: { outbound: 15_001, inbound: 15_006, mesh: 15_008 },
  mark: 1,
  exclude: {
    inboundPorts: [22],
    outboundPorts: [1],
    outboundAddresses: ['192.0.2.0/24', '2001:db8::/32'],
    users: [1],
  },
  allowUdp: [{ address: '192.0.2.53', port: 53 }],
  localPorts: [80],
};

function readMounts(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return '';
  }
}
