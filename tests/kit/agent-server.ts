import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentCertificates } from '../../server/agents/agent-certificates.ts';
import { IssuedSvids } from '../../server/agents/issued-svids.ts';
import { JoinTokens } from '../../server/agents/join-tokens.ts';
import { NodeAddresses } from '../../server/agents/node-addresses.ts';
import { Nodes } from '../../server/agents/nodes.ts';
import { TpmHosts } from '../../server/agents/tpm-hosts.ts';
import { AccessLog } from '../../server/audit/access-log.ts';
import { RecordBudget } from '../../server/audit/record-budget.ts';
import { RecordIntake } from '../../server/audit/record-intake.ts';
import { ONLINE_FILES } from '../../server/ca/open-authority.ts';
import { startServerCertificate } from '../../server/ca/server-certificate.ts';
import { buildAgentApp } from '../../server/http/agent-app.ts';
import { DEFAULT_LIMITS } from '../../server/http/limits.ts';
import { startTlsListener, type TlsListener } from '../../server/http/listeners/tls-listener.ts';
import { JoinTokenAttestor } from '../../server/node-attestation/join-token.ts';
import { NodeAttestation } from '../../server/node-attestation/node-attestation.ts';
import { AttestationSessions } from '../../server/node-attestation/session.ts';
import { TpmAttestor } from '../../server/node-attestation/tpm.ts';
import { Quarantines } from '../../server/quarantine/quarantines.ts';
import { Registration } from '../../server/registration/registration.ts';
import { SyncSource } from '../../server/sync/sync.ts';
import { storeTrustBundle } from '../../server/sync/trust-bundles.ts';
import type { WireBundle } from '../../shared/protocol/attestation.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { Shutdown } from '../../shared/runtime/shutdown.ts';
import { openTestPglite, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from './datastore.ts';
import { createTestCa, type TestCa } from './test-ca.ts';

const clock = systemClock;
const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

/** Of one host, and a minute's worth of them at once. */
const DENIALS_PER_SECOND = 10;

/** What agents see of a server on 8443, made of the server's own parts around one database, and started and stopped at will on one port. */
export class AgentServer {
  readonly tokens: JoinTokens;
  readonly tpmHosts: TpmHosts;
  readonly nodes: Nodes;
  readonly nodeAddresses: NodeAddresses;
  readonly registration: Registration;
  readonly quarantines: Quarantines;
  readonly accessLog: AccessLog;
  readonly ca: TestCa;
  /** Life of the agents' own certificates in seconds. */
  agentTtlSeconds = 86_400;
  /** What there is under a digest. */
  readonly artifacts = new Map<string, Uint8Array>();
  readonly #kept: TestDatastore;
  readonly #folder: string;
  #running: Shutdown | undefined;
  #port = 0;

  private constructor(kept: TestDatastore, ca: TestCa, folder: string) {
    const { datastore } = kept;
    this.ca = ca;
    this.#kept = kept;
    this.#folder = folder;
    this.tokens = new JoinTokens({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN, randomBytes: random });
    this.tpmHosts = new TpmHosts(datastore);
    this.nodes = new Nodes({ datastore, clock, log: silentLog });
    this.nodeAddresses = new NodeAddresses(datastore);
    this.quarantines = new Quarantines({ datastore, clock });
    this.registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
    this.accessLog = new AccessLog({ datastore, log: silentLog });
  }

  static async open(): Promise<AgentServer> {
    const folder = mkdtempSync(join(tmpdir(), 'picket-agent-server-'));
    const ca = await createTestCa({ folder, clock });
    return new AgentServer(await openTestPglite(), ca, folder);
  }

  /** PEM of the root. */
  get bundleFile(): string {
    return join(this.#folder, ONLINE_FILES.bundle);
  }

  /** The port of 127.0.0.1 at which agents find it, the same after a restart. */
  get port(): number {
    return this.#port;
  }

  async start(): Promise<void> {
    const shutdown = new Shutdown(silentLog);
    this.#running = shutdown;
    const { datastore } = this.#kept;
    const { authority } = this.ca;
    const sync = new SyncSource({ datastore, clock, log: silentLog, random: Math.random });
    await sync.start();
    shutdown.add('sync', async () => await sync.stop());
    const certificate = await startServerCertificate({
      authority,
      trustDomain: TEST_TRUST_DOMAIN,
      names: [],
      clock,
      random: Math.random,
      log: silentLog,
    });
    shutdown.add('certificate', async () => await certificate.stop());
    const draining = new AbortController();
    const app = this.#buildApp(
      sync,
      draining.signal,
      await storeTrustBundle(datastore, authority.bundle.current),
    );
    const listener: TlsListener = await startTlsListener({
      address: { host: '127.0.0.1', port: this.#port },
      certificate,
      fetch: app.fetch,
      crowd: new CrowdTally(systemClock),
      limits: { ...DEFAULT_LIMITS, drainMs: 200, attestBurst: 1000 },
      clock,
      log: silentLog,
    });
    this.#port = listener.port;
    shutdown.add('listener', async () => await listener.stop());
    shutdown.add('streams', () => draining.abort());
  }

  /** Agents reach nobody until the next `start`. */
  async stop(): Promise<void> {
    await this.#running?.stop();
    this.#running = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#kept.dispose();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #buildApp(sync: SyncSource, draining: AbortSignal, wire: WireBundle) {
    const { nodes, registration, accessLog, tokens, agentTtlSeconds } = this;
    const rates = { denials: DENIALS_PER_SECOND, records: undefined };
    const budget = new RecordBudget({ rates, clock, log: silentLog });
    const { authority } = this.ca;
    const issued = new IssuedSvids({ datastore: this.#kept.datastore, clock });
    const bundle = (): WireBundle => wire;
    const attestation = new NodeAttestation({
      attestors: [new JoinTokenAttestor(tokens), this.#tpmAttestor()],
      sessions: new AttestationSessions({ clock, random }),
      authority,
      nodes,
      issued,
      bundle,
      trustDomain: TEST_TRUST_DOMAIN,
      agentTtlSeconds,
      log: silentLog,
    });
    return buildAgentApp({
      attestation,
      certificates: new AgentCertificates({
        authority,
        nodes,
        registration,
        issued,
        quarantines: this.quarantines,
        agentTtlSeconds,
      }),
      verification: { bundle: authority.bundle, clock },
      requireAgent: async (nodeId, serial) => void (await nodes.authenticate(nodeId, serial)),
      sync,
      policies: { artifact: (digest) => Promise.resolve(this.artifacts.get(digest)) },
      intake: new RecordIntake({ accessLog, budget }),
      nodes,
      compareClocks: () => undefined,
      bundle,
      limits: DEFAULT_LIMITS,
      clock,
      log: silentLog,
      draining,
    });
  }

  #tpmAttestor(): TpmAttestor {
    return new TpmAttestor({
      hosts: this.tpmHosts,
      random,
      clock,
      pcrs: [0, 7],
      manufacturers: { roots: [], intermediates: [] },
      isEkCertificateRequired: false,
    });
  }
}
