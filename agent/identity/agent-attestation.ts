import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { NodeProver } from '../node-attestation/node-prover.ts';
import type { ServerApi } from '../server-link/server-api.ts';
import { holdSvid } from './held-svid.ts';
import type { HeldSvid } from './identity.ts';
import type { IdentityStore } from './identity-store.ts';
import { buildCsr, generateP256Key, type KeyPair } from './key-pair.ts';

export interface AgentAttestationOptions {
  readonly api: Pick<ServerApi, 'attest' | 'renew'>;
  readonly prover: NodeProver;
  readonly store: Pick<IdentityStore, 'readAttestationKey' | 'writeAttestationKey'>;
  readonly agentVersion: string;
  /** Addresses that the host claims at this moment. */
  readonly addresses: () => readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

/** What the agent is from now on. */
export interface AgentCredentials {
  readonly svid: HeldSvid;
  readonly bundle: TrustBundle;
}

/** How the agent comes by its own SVID: by proving its host, and later by the SVID that it has. Every one has a key of its own. */
export class AgentAttestation {
  readonly #options: AgentAttestationOptions;

  constructor(options: AgentAttestationOptions) {
    this.#options = options;
  }

  /** Whether the host may prove itself anew when its SVID is gone. */
  get canReattest(): boolean {
    return this.#options.prover.canReattest;
  }

  /** Proves the host. Throws what the server refuses, or `unavailable`. */
  async attest(): Promise<AgentCredentials> {
    const { api, prover, agentVersion, addresses, clock, log } = this.#options;
    const keyPair = await this.#findKey();
    const { svid, bundle } = await api.attest({ prover, keyPair, agentVersion, addresses: addresses() });
    const held = holdSvid(svid, keyPair.privateKeyPkcs8, { bundle, nowMs: clock.nowMs() });
    log.info('attested', { agentId: held.spiffeId, ends: new Date(held.notAfterMs).toISOString() });
    return { svid: held, bundle };
  }

  /** A new SVID of the same identity. Throws as `attest`. */
  async renew(spiffeId: SpiffeId): Promise<AgentCredentials> {
    const { api, clock, log } = this.#options;
    const keyPair = await generateP256Key();
    const { svid, bundle } = await api.renew(Buffer.from(buildCsr(keyPair)).toString('base64'));
    const held = holdSvid(svid, keyPair.privateKeyPkcs8, { spiffeId, bundle, nowMs: clock.nowMs() });
    log.info('agent_svid_renewed', { agentId: held.spiffeId, ends: new Date(held.notAfterMs).toISOString() });
    return { svid: held, bundle };
  }

  /** A proof that is good once is shown again with the same key when its answer was lost, also after a restart: the server knows the host by it. */
  async #findKey(): Promise<KeyPair> {
    if (this.canReattest) return await generateP256Key();
    const { store } = this.#options;
    const known = await store.readAttestationKey();
    if (known !== undefined) return known;
    const keyPair = await generateP256Key();
    await store.writeAttestationKey(keyPair);
    return keyPair;
  }
}
