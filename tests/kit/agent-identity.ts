import { AgentAttestation } from '../../agent/identity/agent-attestation.ts';
import { IdentityManager } from '../../agent/identity/identity-manager.ts';
import { IdentityStore } from '../../agent/identity/identity-store.ts';
import { MemoryStore } from '../../agent/key-store/memory.ts';
import type { SealedStore } from '../../agent/key-store/sealed-store.ts';
import type { NodeProver } from '../../agent/node-attestation/node-prover.ts';
import { connectToServer, type ServerConnection } from '../../agent/server-link/connection.ts';
import { computeKeyPin, fetchPinnedBundle, verifyServer } from '../../agent/server-link/first-trust.ts';
import { createMarkedDial } from '../../agent/server-link/marked-dial.ts';
import { ServerApi } from '../../agent/server-link/server-api.ts';
import { ServerLink, type ServerEndpoint } from '../../agent/server-link/server-link.ts';
import { ServerTime } from '../../agent/server-link/server-time.ts';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import type { AgentServer } from './agent-server.ts';
import { TEST_TRUST_DOMAIN } from './datastore.ts';

export interface AgentIdentityOptions {
  readonly server: AgentServer;
  readonly prover: NodeProver;
  /** Shared by two rigs it is one host before and after a restart. */
  readonly store?: SealedStore;
  readonly clock?: Clock;
  /** Tried before the server. */
  readonly otherServers?: readonly ServerEndpoint[];
}

/** The part of an agent that speaks with the server, put together as the agent does it. */
export class AgentIdentityRig {
  readonly link: ServerLink;
  readonly api: ServerApi;
  readonly time: ServerTime;
  readonly manager: IdentityManager;
  /** Names of what was logged. */
  readonly events: string[] = [];

  private constructor(parts: Awaited<ReturnType<typeof compose>>) {
    this.link = parts.link;
    this.api = parts.api;
    this.time = parts.time;
    this.manager = parts.manager;
    this.events = parts.events;
  }

  /** Puts it together and loads what the store has; `manager.start()` is the test's. */
  static async open(options: AgentIdentityOptions): Promise<AgentIdentityRig> {
    return new AgentIdentityRig(await compose(options));
  }

  async stop(): Promise<void> {
    this.link.close();
    await this.manager.stop();
  }
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

async function compose(options: AgentIdentityOptions) {
  const { server, prover, store = new MemoryStore(), clock = systemClock, otherServers = [] } = options;
  const events: string[] = [];
  const log = createLog({
    level: 'debug',
    nowMs: () => clock.nowMs(),
    write: (line) => events.push((JSON.parse(line) as { readonly event: string }).event),
  });
  const identityStore = new IdentityStore(store);
  const initial = await identityStore.readSyncState(TEST_TRUST_DOMAIN);
  const firstBundle = initial.bundles.get(TEST_TRUST_DOMAIN) ?? (await pinnedBundle(server));
  const time = new ServerTime({ clock, log });
  // The link asks the manager, and the manager speaks through the link.
  const held: { manager?: IdentityManager } = {};
  const link = new ServerLink({
    servers: [...otherServers, { host: '127.0.0.1', port: server.port }],
    dial: createMarkedDial(0),
    verify: (chain) => verifyServer(chain, held.manager?.ownBundle ?? firstBundle, clock.nowMs()),
    credentials: () => held.manager?.credentials,
    onServerTime: (serverTimeMs) => time.observe(serverTimeMs),
    clock,
    log,
  });
  const api = new ServerApi(link);
  const attestation = new AgentAttestation({
    api,
    prover,
    agentVersion: 'test',
    addresses: () => ['192.0.2.7'],
    clock,
    log,
  });
  const manager = new IdentityManager(
    {
      trustDomain: TEST_TRUST_DOMAIN,
      link,
      api,
      attestation,
      store: identityStore,
      firstBundle,
      clock,
      random: () => 0.5,
      log,
    },
    initial,
  );
  held.manager = manager;
  await manager.restore();
  return { link, api, time, manager, events };
}

async function pinnedBundle(server: AgentServer) {
  const connection = await connectUntrusting(server);
  const [root] = server.ca.authority.bundle.current.x509Authorities;
  if (root === undefined) throw new Error('There is no root');
  try {
    return await fetchPinnedBundle(connection, {
      sha256: computeKeyPin(root),
      trustDomain: TEST_TRUST_DOMAIN,
    });
  } finally {
    connection.close();
  }
}
