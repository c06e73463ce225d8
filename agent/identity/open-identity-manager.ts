import { describeError, PicketError, toPicketError } from '../../shared/errors/errors.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { SealedStore } from '../key-store/sealed-store.ts';
import type { NodeProver } from '../node-attestation/node-prover.ts';
import type { Dial } from '../server-link/connection.ts';
import {
  fetchPinnedBundle,
  readBundleFile,
  verifyServer,
  type FirstTrust,
} from '../server-link/first-trust.ts';
import { ServerApi } from '../server-link/server-api.ts';
import { ServerLink, type ServerEndpoint } from '../server-link/server-link.ts';
import { ServerTime } from '../server-link/server-time.ts';
import type { SyncState } from '../server-link/sync-state.ts';
import { AgentAttestation } from './agent-attestation.ts';
import { IdentityManager } from './identity-manager.ts';
import { IdentityStore } from './identity-store.ts';
import type { StateObserver } from './state-keeper.ts';

export interface OpenIdentityOptions {
  readonly trustDomain: TrustDomain;
  readonly servers: readonly ServerEndpoint[];
  readonly trust: FirstTrust;
  readonly dial: Dial;
  readonly store: SealedStore;
  readonly prover: NodeProver;
  readonly agentVersion: string;
  /** Addresses that the host claims at this moment. */
  readonly addresses: () => readonly string[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly observer?: StateObserver;
}

/** The manager, restored and not yet started, with what it speaks to the server through. */
export interface OpenedIdentity {
  readonly manager: IdentityManager;
  readonly api: ServerApi;
  /** How far the host's clock is from the server's. */
  readonly time: ServerTime;
  /** Ends the connection to the server. */
  close(): Promise<void>;
}

/** Builds everything that the agent's identities need, and takes what an earlier run left. Rejects with `seal_broken`, `trust_bundle_invalid` or `root_pin_mismatch`. */
export async function openIdentityManager(options: OpenIdentityOptions): Promise<OpenedIdentity> {
  const { trustDomain, clock, log } = options;
  const store = new IdentityStore(options.store);
  const initial = await store.readSyncState(trustDomain);
  const firstBundle = await findFirstBundle(options, initial);
  const time = new ServerTime({ clock, log });
  // The link asks the manager for its credentials, and the manager speaks through the link.
  const held: { manager?: IdentityManager } = {};
  const link = new ServerLink({
    ...options,
    verify: (chain) => verifyServer(chain, held.manager?.ownBundle ?? firstBundle, clock.nowMs()),
    credentials: () => held.manager?.credentials,
    onServerTime: (serverTimeMs) => time.observe(serverTimeMs),
  });
  const api = new ServerApi(link);
  const attestation = new AgentAttestation({ ...options, store, api });
  const manager = new IdentityManager({ ...options, store, link, api, attestation, firstBundle }, initial);
  held.manager = manager;
  await manager.restore();
  const close = async (): Promise<void> => {
    link.close();
    await time.stop();
  };
  return { manager, api, time, close };
}

/** What an earlier run knew goes before what the host was set up with: the root may have been replaced since. */
async function findFirstBundle(options: OpenIdentityOptions, initial: SyncState): Promise<TrustBundle> {
  const { trustDomain, trust } = options;
  const known = initial.bundles.get(trustDomain);
  if (known !== undefined) return known;
  if (trust.kind === 'file') return await readBundleFile(trust.path, trustDomain);
  return await awaitPinnedBundle(options, trust.sha256);
}

const RETRY = { firstMs: 500, maxMs: 15_000 };

/** Asks until a server answers. A server that does not know the pinned root is refused at once. */
async function awaitPinnedBundle(options: OpenIdentityOptions, sha256: string): Promise<TrustBundle> {
  const { clock, log, trustDomain } = options;
  const backoff = new Backoff({ ...RETRY, random: options.random });
  // Nothing is sent to it and nothing believed of it but the bundle, of which the pin says what counts.
  const link = new ServerLink({ ...options, verify: () => undefined, credentials: () => undefined });
  try {
    for (;;) {
      try {
        return await fetchPinnedBundle(await link.connection(), { sha256, trustDomain });
      } catch (cause) {
        const error = toPicketError(cause);
        if (error instanceof PicketError && error.reason === 'root_pin_mismatch') throw error;
        const delayMs = backoff.nextMs();
        log.warn('bundle_not_fetched', { error: describeError(error), retry_ms: Math.round(delayMs) });
        await new Promise<void>((resolve) => clock.schedule(delayMs, resolve));
      }
    }
  } finally {
    link.close();
  }
}
