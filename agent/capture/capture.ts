import type { UserRange } from '../subordinate-users/subordinate-users.ts';

/** Ports and marks that capture and proxy must agree on. */
export interface CapturePorts {
  readonly outbound: number;
  readonly inbound: number;
  readonly mesh: number;
}

/** What is captured and what is left alone on this host. */
export interface CaptureSettings {
  readonly ports: CapturePorts;
  /** SO_MARK of every connection that the agent makes itself. */
  readonly mark: number;
  /**
   * What tells the answers to connections from a caller's address: their mark, their routing table and their zone of connection tracking have this number. Needed where there are
   * `transparentPorts`.
   */
  readonly transparentId?: number;
  /** The user that the agent runs as, 0 unless given: nobody else may answer on the agent's ports, which are free while it is down. */
  readonly agentUid?: number;
  /** Never captured, either way; the live SSH port is always among the inbound ones. */
  readonly exclude: {
    readonly inboundPorts: readonly number[];
    readonly outboundPorts: readonly number[];
    /** CIDRs of destinations. */
    readonly outboundAddresses: readonly string[];
    /** Numeric uids whose connections pass uncaptured. */
    readonly users: readonly number[];
  };
  /** UDP that may leave: destination CIDR and port. Everything else is dropped. */
  readonly allowUdp: readonly { readonly address: string; readonly port: number }[];
  /** DNS servers that every program of this host, and of its captured namespaces, may ask, by UDP and TCP. None unless given. */
  readonly resolvers?: readonly { readonly address: string; readonly port: number }[];
  /** Whether other UDP is logged for the agent, which lets a flow pass by making it a member of sets; false unless given. */
  readonly decidesUdp?: boolean;
  /** Users who are one where it is counted how much each asks: ranges of whole numbers that do not overlap. None unless given. */
  readonly userRanges?: readonly UserRange[];
  /** Addresses of other namespaces of this host, or networks of such: what comes for them is steered to the agent. None unless given. */
  readonly namespaceAddresses?: readonly string[];
  /** Ports of listeners registered on this host: captured on loopback too. */
  readonly localPorts: readonly number[];
  /** Those of them whose applications are connected from the caller's address. None unless given. */
  readonly transparentPorts?: readonly number[];
}

/** What brings a host's own connections to the agent. */
export const CAPTURE_BACKENDS = ['nftables', 'ebpf'] as const;
export type CaptureBackend = (typeof CAPTURE_BACKENDS)[number];

/** What may be configured: `auto` is eBPF where the kernel lets us, nftables elsewhere. */
export const BACKEND_CHOICES = [...CAPTURE_BACKENDS, 'auto'] as const;
export type BackendChoice = (typeof BACKEND_CHOICES)[number];

/** Steers the host's traffic into the agent. Adapters: `nft.ts`, `ebpf.ts`. What it installs outlives the agent and then points at nothing. */
export interface Capture {
  readonly backend: CaptureBackend;
  /** Installs the rules, or replaces those that are there, in one transaction. Throws `failed_precondition`, or `unavailable`, with what the kernel or nft said. */
  apply(settings: CaptureSettings): Promise<void>;
  /** Whether a process is one that this adapter ran lately, so that its change is not named as somebody else's. */
  isOwn(pid: number): boolean;
  /** Whether the rules in the kernel are the ones that were applied last. */
  isIntact(): Promise<boolean>;
  /** The rules as text, for people. */
  show(): Promise<string>;
  /** Removes everything that `apply` installed, by whichever adapter; nothing there is no error. */
  remove(): Promise<void>;
}
