import type { ControlPlane } from '../kit/control-plane.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import type { TestHost } from '../kit/netns.ts';

/** Something that goes wrong for a while. */
export interface Disturbance {
  readonly name: string;
  /** How long what is asked may still fail behind its end, milliseconds. Absent where nobody may notice anything, while it lasts either. */
  readonly afterMs?: number;
  begin(): Promise<void>;
  end(): Promise<void>;
}

/** Behind a restart clients meet connections that are gone. */
const RESTART_MS = 2000;
/** TCP waits ever longer before it tries a lost packet again. */
const NETWORK_MS = 10_000;

/** An agent ends, or is killed, and is started again. */
export function agentRestart(agent: MeshHost, signal: NodeJS.Signals): Disturbance {
  return {
    name: `${signal} to the agent of ${agent.name}`,
    afterMs: RESTART_MS,
    begin: async () => void (await agent.stop(signal)),
    end: async () => await agent.start(),
  };
}

/** Another process takes an agent's place. */
export function agentUpgrade(agent: MeshHost): Disturbance {
  return {
    name: `upgrade of the agent of ${agent.name}`,
    begin: async () => void (await agent.upgrade()),
    end: () => Promise.resolve(),
  };
}

/** The server is killed and started again: that is nobody's trouble who has what he needs. */
export function serverRestart(control: ControlPlane): Disturbance {
  return {
    name: 'SIGKILL to the server',
    begin: async () => void (await control.stop('SIGKILL')),
    end: async () => await control.start(),
  };
}

/** Nothing passes between two hosts. `isFelt`: requests go that way. */
export function partition(one: TestHost, other: TestHost, isFelt: boolean): Disturbance {
  const rule = `add rule inet chaos arriving iifname eth0`;
  return {
    name: `partition of ${one.name} and ${other.name}`,
    ...(isFelt ? { afterMs: NETWORK_MS } : {}),
    begin: async () =>
      await addRules(one, [
        `${rule} ip saddr ${other.ipv4} counter drop`,
        `${rule} ip6 saddr ${other.ipv6} counter drop`,
      ]),
    end: async () => await removeRules(one),
  };
}

/** One packet in ten does not arrive at a host. */
export function loss(host: TestHost): Disturbance {
  return {
    name: `loss of packets to ${host.name}`,
    afterMs: NETWORK_MS,
    begin: async () =>
      await addRules(host, [
        'add rule inet chaos arriving iifname eth0 meta l4proto tcp numgen random mod 10 < 1 counter drop',
      ]),
    end: async () => await removeRules(host),
  };
}

async function addRules(host: TestHost, rules: readonly string[]): Promise<void> {
  const place = [
    'add table inet chaos',
    'add chain inet chaos arriving { type filter hook prerouting priority -300; }',
  ];
  await host.runOk('nft', [...place, ...rules].join('; '));
}

async function removeRules(host: TestHost): Promise<void> {
  await host.runOk('nft', 'delete table inet chaos');
}
