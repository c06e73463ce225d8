import { z } from 'zod';
import { syncMessage } from '../../shared/protocol/sync.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { parseSealedJson } from '../key-store/sealed-json.ts';
import type { SealedStore } from '../key-store/sealed-store.ts';
import {
  applySyncUpdate,
  EMPTY_SYNC_STATE,
  NOTHING_TOLD,
  toSnapshot,
  type SyncState,
} from '../server-link/sync-state.ts';
import { sealedSvid, sealSvid, unsealSvid } from './held-svid.ts';
import type { HeldSvid } from './identity.ts';
import { publicKeyOf, type KeyPair } from './key-pair.ts';

const AGENT_SVID = 'agent-svid';
const ATTESTATION_KEY = 'attestation-key';
const WORKLOAD_SVIDS = 'workload-svids';
const SYNC_STATE = 'sync-state';

const sealedWorkloads = z.record(z.string(), z.object({ revision: z.number(), svid: sealedSvid }));

/** A workload's SVID with the revision of the entry that it was issued for. */
export interface StoredWorkloadSvid {
  readonly revision: number;
  readonly svid: HeldSvid;
}

/** What the agent remembers of identities over a restart, sealed. Reading rejects with `seal_broken` for what was altered on disk. */
export class IdentityStore {
  readonly #store: SealedStore;

  constructor(store: SealedStore) {
    this.#store = store;
  }

  async readAgentSvid(): Promise<HeldSvid | undefined> {
    const value = await this.#read(AGENT_SVID, sealedSvid);
    return value === undefined ? undefined : unsealSvid(value);
  }

  /** The key of the attestation is kept with its certificate from now on. */
  async writeAgentSvid(svid: HeldSvid): Promise<void> {
    await this.#write(AGENT_SVID, sealSvid(svid));
    await this.#store.delete(ATTESTATION_KEY);
  }

  /** The key that this host asked with to be let in, while no answer has come. */
  async readAttestationKey(): Promise<KeyPair | undefined> {
    const privateKeyPkcs8 = await this.#store.read(ATTESTATION_KEY);
    return privateKeyPkcs8 && { privateKeyPkcs8, publicKeySpki: publicKeyOf(privateKeyPkcs8) };
  }

  async writeAttestationKey({ privateKeyPkcs8 }: KeyPair): Promise<void> {
    await this.#store.write(ATTESTATION_KEY, privateKeyPkcs8);
  }

  /** By entry id. */
  async readWorkloadSvids(): Promise<ReadonlyMap<string, StoredWorkloadSvid>> {
    const value = (await this.#read(WORKLOAD_SVIDS, sealedWorkloads)) ?? {};
    return new Map(
      Object.entries(value).map(([id, { revision, svid }]) => [id, { revision, svid: unsealSvid(svid) }]),
    );
  }

  async writeWorkloadSvids(svids: ReadonlyMap<string, StoredWorkloadSvid>): Promise<void> {
    const sealed = Array.from(
      svids,
      ([id, { revision, svid }]) => [id, { revision, svid: sealSvid(svid) }] as const,
    );
    await this.#write(WORKLOAD_SVIDS, Object.fromEntries(sealed));
  }

  /** What the server said last; nothing at the first start. */
  async readSyncState(trustDomain: TrustDomain): Promise<SyncState> {
    const message = await this.#read(SYNC_STATE, syncMessage);
    if (message?.kind !== 'snapshot') return EMPTY_SYNC_STATE;
    const state = applySyncUpdate(EMPTY_SYNC_STATE, message, trustDomain);
    // "Nothing told yet" must not become "nobody in quarantine".
    return message.epoch === NOTHING_TOLD.epoch ? { ...state, position: undefined } : state;
  }

  async writeSyncState(state: SyncState): Promise<void> {
    await this.#write(SYNC_STATE, toSnapshot(state));
  }

  async #read<T extends z.ZodType>(name: string, schema: T): Promise<z.output<T> | undefined> {
    const value = await this.#store.read(name);
    return value === undefined ? undefined : parseSealedJson(name, value, schema);
  }

  async #write(name: string, value: unknown): Promise<void> {
    await this.#store.write(name, Buffer.from(JSON.stringify(value)));
  }
}
