import { verifyPolicySignature } from '../../shared/spiffe/policy-signer.ts';
import type { RegisteredDirectory } from '../directory/registered-directory.ts';
import type { IdentityManager } from '../identity/identity-manager.ts';
import { openIdentityManager, type OpenedIdentity } from '../identity/open-identity-manager.ts';
import type { SealedStore } from '../key-store/sealed-store.ts';
import type { AgentBase } from './agent-base.ts';
import { openDirectory } from './open-directory.ts';
import { openProcessIdentifier, type IdentifierAdapters } from './open-process-identifier.ts';
import { openProver, type ProverAdapters } from './open-prover.ts';
import { followPolicy } from '../policy/follow-policy.ts';
import { PolicyHolder } from '../policy/policy-holder.ts';
import { HeldQuarantine } from '../quarantine/quarantine.ts';
import { createMarkedDial } from '../server-link/marked-dial.ts';
import { openUsers } from '../users/open-users.ts';
import type { TokenUsers } from '../users/token-users.ts';
import type { ProcessIdentifier, SenderIdentifier } from '../workload-attestation/process-identity.ts';

export interface KnowledgeOptions {
  readonly store: SealedStore;
  readonly adapters: { readonly provers: ProverAdapters; readonly identifiers: IdentifierAdapters };
}

/** What the agent knows: of the server, and of its own host. */
export interface Knowledge {
  readonly identity: OpenedIdentity;
  readonly manager: IdentityManager;
  readonly quarantine: HeldQuarantine;
  readonly holder: PolicyHolder;
  readonly processes: ProcessIdentifier & SenderIdentifier;
  readonly directory: RegisteredDirectory;
  readonly users: TokenUsers;
}

/** Opens everything from what was kept, and follows what the server says. The conversation with the server is not begun here. */
export async function openKnowledge(base: AgentBase, options: KnowledgeOptions): Promise<Knowledge> {
  const identity = await openIdentity(base, options);
  const { manager } = identity;
  const quarantine = holdQuarantine(base, manager);
  const holder = await holdPolicy(base, { identity, store: options.store });
  const processes = identifyProcesses(base, { manager, adapters: options.adapters.identifiers });
  const directory = openDirectoryOf(base, manager);
  const users = await openUsersOf(base);
  return { identity, manager, quarantine, holder, processes, directory, users };
}

async function openIdentity(base: AgentBase, { store, adapters }: KnowledgeOptions): Promise<OpenedIdentity> {
  const { config, runtime, claims, metrics, parts, shutdown, clock, log } = base;
  const { trustDomain, servers, trust, capture, attestation } = config;
  const identity = await openIdentityManager({
    trustDomain,
    servers,
    trust,
    dial: createMarkedDial(capture.mark),
    store,
    prover: await openProver(attestation, { adapters: adapters.provers, clock }),
    agentVersion: runtime.version,
    addresses: claims,
    clock,
    random: Math.random,
    log,
    observer: metrics,
  });
  shutdown.add('server link', async () => await identity.close());
  parts.manager = identity.manager;
  parts.link = identity;
  return identity;
}

/** First of all who follow what the server says: nothing of the same message is taken before it. */
function holdQuarantine({ parts, shutdown }: AgentBase, manager: IdentityManager): HeldQuarantine {
  const quarantine = new HeldQuarantine({ told: manager.sync, ownNode: () => manager.nodeId });
  shutdown.add('quarantine', () => quarantine.stop());
  parts.quarantine = quarantine;
  return quarantine;
}

/** The last good policy is in force before anything is decided; a new one is taken as soon as the server tells of it. */
async function holdPolicy(
  { config, loader, metrics, parts, shutdown, clock, log }: AgentBase,
  { identity: { manager, api }, store }: { readonly identity: OpenedIdentity; readonly store: SealedStore },
): Promise<PolicyHolder> {
  const holder = new PolicyHolder({
    trustDomain: config.trustDomain,
    bundle: () => manager.ownBundle,
    verifySignature: verifyPolicySignature,
    loader,
    fetchArtifact: async (digest) => await api.fetchArtifact(digest),
    store,
    clock,
    random: Math.random,
    log,
    observer: metrics,
  });
  await holder.restore();
  const unfollow = followPolicy(manager.sync, holder);
  shutdown.add('policy', () => {
    unfollow();
    holder.stop();
  });
  parts.holder = holder;
  return holder;
}

function identifyProcesses(
  { namespaces, parts, shutdown, clock, log }: AgentBase,
  { manager, adapters }: { readonly manager: IdentityManager; readonly adapters: IdentifierAdapters },
): ProcessIdentifier & SenderIdentifier {
  const opened = openProcessIdentifier({
    adapters,
    entries: manager.known.entries,
    findNamespace: namespaces === undefined ? undefined : (link) => namespaces.findLabel(link),
    clock,
    log,
  });
  parts.finder = opened.finder;
  shutdown.add('process finder', () => opened.finder.close());
  return opened.processes;
}

function openDirectoryOf(
  { config, addresses, namespaces, parts, shutdown, log }: AgentBase,
  told: IdentityManager,
): RegisteredDirectory {
  const directory = openDirectory({ config, told, addresses, namespaces, log });
  shutdown.add('directory', () => directory.stop());
  parts.directory = directory;
  return directory;
}

async function openUsersOf(base: AgentBase): Promise<TokenUsers> {
  const { config, metrics, parts, shutdown, clock, log } = base;
  const users = await openUsers({
    issuers: config.issuers,
    dial: createMarkedDial(config.capture.mark),
    clock,
    random: Math.random,
    log,
    onVerified: (outcome) => metrics.userVerified(outcome),
  });
  shutdown.add('users', async () => await users.stop());
  parts.users = users;
  return users;
}
