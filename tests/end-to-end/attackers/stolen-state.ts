import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IdentityStore } from '../../../agent/identity/identity-store.ts';
import type { HeldSvid } from '../../../agent/identity/identity.ts';
import { openSealedDisk } from '../../../agent/key-store/sealed-disk.ts';
import { LastGood, type KeptPolicy } from '../../../agent/policy/last-good.ts';
import { toSnapshot, type SyncSnapshot } from '../../../agent/server-link/sync-state.ts';
import { parseTrustDomain } from '../../../shared/spiffe/trust-domain.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';

/** What root on a host reads of its agent, which keeps it sealed with a key that stands beside it. */
export interface StolenState {
  /** The agent's own certificate and key. */
  readonly svid: HeldSvid;
  /** What the server told it. */
  readonly snapshot: SyncSnapshot;
  readonly policy: KeptPolicy;
}

/** The folder of an agent's sealed state. */
export function stateFolderOf(agent: MeshHost): string {
  return join(agent.folder, 'data');
}

/** Opens a copy of an agent's state, which may be running. */
export async function stealState(agent: MeshHost): Promise<StolenState> {
  const folder = mkdtempSync(join(tmpdir(), 'picket-stolen-'));
  try {
    const directory = join(folder, 'data');
    cpSync(stateFolderOf(agent), directory, {
      recursive: true,
      filter: (path) => !/\.sealed\.|\/audit$/.test(path),
    });
    const store = await openSealedDisk({ directory });
    const identities = new IdentityStore(store);
    const svid = await identities.readAgentSvid();
    const policy = await new LastGood(store).readPolicy();
    if (svid === undefined || policy === undefined) throw new Error(`${agent.name} keeps nothing yet`);
    const snapshot = toSnapshot(await identities.readSyncState(parseTrustDomain('example.org')));
    return { svid, snapshot, policy };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
