import type { BackendChoice } from '../../agent/capture/capture.ts';
import type { ForeignChains } from '../../agent/capture/foreign-chains.ts';
import type { PicketError } from '../../shared/errors/errors.ts';
import { checkerOf, when, type Check } from './check.ts';

const check = checkerOf('host');

/** What was found out about the kernel and its rules; an error where it could not be found out. */
export interface HostFacts {
  /** What the kernel said of our rules, tried out and not installed. */
  readonly trial: PicketError | undefined;
  /** What it said when it was asked for sockets and their owners. */
  readonly socketDiagnosis: PicketError | undefined;
  /** The rules that are installed as text; empty: none. */
  readonly rules: string | PicketError;
  readonly foreign: ForeignChains | PicketError;
  /** Whether anybody wants the rules to be there. */
  readonly isCaptureWanted: boolean;
  /** What is to steer this host's own connections. */
  readonly backend: BackendChoice;
  /** What the kernel said of the eBPF programs, tried out and not attached. */
  readonly obstacleToPrograms: PicketError | undefined;
}

/** What the agent needs of the host, and what is in its way. */
export function checkHost(facts: HostFacts): readonly Check[] {
  return [
    check(
      'nftables',
      'the kernel takes the rules',
      facts.trial && [
        'fail',
        facts.trial.message,
        'apt-get install nftables; a kernel with nf_tables, NAT, fib and socket',
      ],
    ),
    checkPrograms(facts),
    check(
      'sock_diag',
      'the kernel tells whose a connection is',
      facts.socketDiagnosis && [
        'fail',
        facts.socketDiagnosis.message,
        'a kernel with inet_diag and tcp_diag',
      ],
    ),
    checkRules(facts),
    checkForeign(facts.foreign),
  ];
}

function checkPrograms({ backend, obstacleToPrograms }: HostFacts): Check {
  const why = obstacleToPrograms?.message;
  const found = why === undefined ? 'the kernel takes the programs' : `cannot be used: ${why}`;
  return check(
    'ebpf',
    backend === 'nftables' ? `${found}; capture.backend does not ask for them` : found,
    why === undefined || backend !== 'ebpf'
      ? undefined
      : [
          'fail',
          why,
          'a kernel of Linux 6.2 or later with BPF, BTF and cgroups of version 2, and /sys/fs/bpf mounted; or capture.backend: nftables',
        ],
  );
}

function checkRules({ rules, isCaptureWanted }: HostFacts): Check {
  if (typeof rules !== 'string') return check('rules', '', ['fail', rules.message, 'run it as root']);
  return check(
    'rules',
    rules === '' ? 'none, as configured' : 'in the kernel',
    when(
      rules === '' && isCaptureWanted,
      'fail',
      'there are none: traffic passes WITHOUT Picket',
      'start the agent, which installs them; the agent’s log: capture_failed',
    ),
    when(
      rules !== '' && !isCaptureWanted,
      'warn',
      'there are rules, although capture.enabled is false',
      'picket agent capture remove, unless you look after them yourself',
    ),
  );
}

function checkForeign(foreign: ForeignChains | PicketError): Check {
  if (foreign instanceof Error) return check('other rules', '', ['warn', foreign.message, 'run it as root']);
  const { programs, dropping, translating } = foreign;
  const forwarders = programs.filter((program) => FORWARDERS.has(program));
  return check(
    'other rules',
    programs.length === 0 ? 'none' : `of ${programs.join(', ')}`,
    when(
      forwarders.length > 0,
      'warn',
      `${forwarders.join(', ')}: what this host forwards is dropped, so its containers or machines have no network of their own`,
      'name their network namespaces in capture.namespaces, and the agent serves them (docs/capture.md); machines it cannot serve',
    ),
    when(
      dropping.length > 0,
      'warn',
      `others drop what they do not allow: ${dropping.join(', ')}`,
      'let TCP port 15008 in, and out to other hosts, and 8443 out to the server, there',
    ),
    when(
      translating.length > 0,
      'warn',
      `others may translate addresses before our rules: ${translating.join(', ')}; connections of listeners with /transparent are refused where they do`,
      'give those chains a higher priority, such as srcnat (100)',
    ),
  );
}

/** Programs whose guests reach the network through the host. */
const FORWARDERS = new Set(['Docker', 'kube-proxy', 'libvirt']);
