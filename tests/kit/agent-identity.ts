import { openIdentityManager, type OpenedIdentity } from '../../agent/identity/open-identity-manager.ts';
import { MemoryStore } from '../../agent/key-store/memory.ts';
import type { SealedStore } from '../../agent/key-store/sealed-store.ts';
import type { NodeProver } from '../../agent/node-attestation/node-prover.ts';
import { connectToServer, type ServerConnection } from '../../agent/server-link/connection.ts';
import { computeKeyPin, type FirstTrust } from '../../agent/server-link/first-trust.ts';
import { createMarkedDial } from '../../agent/server-link/marked-dial.ts';
import type { ServerEndpoint } from '../../agent/server-link/server-link.ts';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import type { AgentServer } from './agent-server.ts';
import { TEST_TRUST_DOMAIN } from './datastore.ts';

export interface AgentIdentityOptions {
  readonly server: AgentServer;
  readonly prover: NodeProver;
  /** The pin of the server's root if absent. */
  readonly trust?: FirstTrust;
  /** Shared by two rigs it is one host before and after a restart. */
  readonly store?: SealedStore;
  readonly clock?: Clock;
  /** Tried before the server. */
  readonly otherServers?: readonly ServerEndpoint[];
}

/** An agent's identities, opened as the agent opens them; `manager.start()` is the test's. */
export interface AgentIdentityRig extends OpenedIdentity {
  /** Names of what was logged. */
  readonly events: readonly string[];
}

export async function openAgentIdentity(options: AgentIdentityOptions): Promise<AgentIdentityRig> {
  const { server, clock = systemClock, otherServers = [] } = options;
  const events: string[] = [];
  const opened = await openIdentityManager({
    trustDomain: TEST_TRUST_DOMAIN,
    servers: [...otherServers, { host: '127.0.0.1', port: server.port }],
    trust: options.trust ?? { kind: 'pin', sha256: rootPinOf(server) },
    dial: createMarkedDial(0),
    store: options.store ?? new MemoryStore(),
    prover: options.prover,
    agentVersion: 'test',
    addresses: () => ['192.0.2.7'],
    clock,
    random: () => 0.5,
    log: createLog({
      level: 'debug',
      nowMs: () => clock.nowMs(),
      write: (line) => events.push((JSON.parse(line) as { readonly event: string }).event),
    }),
  });
  return { ...opened, events };
}

/** A connection to the server by somebody who does not know yet whom to believe. */
export async function connectUntrusting(server: AgentServer): Promise<ServerConnection> {
  return await connectToServer({
    destination: { address: '127.0.0.1', port: server.port },
    dial: createMarkedDial(0),
    verify: () => undefined,
    credentials: undefined,
    clock: systemClock,
  });
}

function rootPinOf(server: AgentServer): string {
  const [root] = server.ca.authority.bundle.current.x509Authorities;
  if (root === undefined) throw new Error('There is no root');
  return computeKeyPin(root);
}
