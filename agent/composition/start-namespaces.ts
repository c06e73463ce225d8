import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { startCaptureKeeper, type CaptureKeeper } from '../capture/capture-keeper.ts';
import { KeptCapture } from '../capture/kept-capture.ts';
import { NFT_TABLE_NAME } from '../capture/nft-rules.ts';
import type { OpenEnclosedCapture } from '../capture/open-capture.ts';
import { enclosedSettingsOf, type AgentConfig } from '../config/config.ts';
import type { Directory } from '../directory/directory.ts';
import type { HostNamespaces } from '../namespaces/host-namespaces.ts';
import { NamespaceKeeper } from '../namespaces/namespace-keeper.ts';
import type { CapturedNamespace } from '../namespaces/namespace-place.ts';
import type { Namespaces } from '../namespaces/namespaces.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import { watchTable } from '../native/nftables.ts';

export interface StartNamespacesOptions {
  readonly config: AgentConfig;
  readonly source: HostNamespaces;
  readonly namespaces: Namespaces;
  readonly agentUid: number;
  readonly openCapture: OpenEnclosedCapture;
  readonly directory: Directory;
  readonly clock: Clock;
  readonly log: Log;
}

/** Captures the namespaces of the source, now and as they come. Never rejects: how each stands, the keeper tells. */
export async function startNamespaces(options: StartNamespacesOptions): Promise<NamespaceKeeper> {
  const { source, namespaces, clock, log } = options;
  const capture = async (namespace: NetworkNamespace): Promise<CapturedNamespace> =>
    await captureNamespace(namespace, options);
  const keeper = new NamespaceKeeper({ source, namespaces, capture, clock, log });
  await keeper.start();
  return keeper;
}

async function captureNamespace(
  namespace: NetworkNamespace,
  options: StartNamespacesOptions,
): Promise<CapturedNamespace> {
  const { clock, log } = options;
  let keeper = await startKeeper(namespace, options);
  const start = async (): Promise<CaptureKeeper> => (keeper = await startKeeper(namespace, options));
  const kept = new KeptCapture({ start, clock, random: Math.random, log }, keeper);
  return {
    get status() {
      return keeper.status;
    },
    letGo: async () => await kept.letGo(),
    takeUp: async () => await kept.takeUp(),
    stop: async () => await kept.letGo(),
  };
}

async function startKeeper(
  namespace: NetworkNamespace,
  { config, agentUid, openCapture, directory, clock, log }: StartNamespacesOptions,
): Promise<CaptureKeeper> {
  return await startCaptureKeeper({
    capture: openCapture(namespace),
    settings: enclosedSettingsOf(config, { localPorts: [], agentUid }),
    registered: () => ({ localPorts: directory.localPorts({ namespace }) }),
    watchRegistered: (listener) => directory.watch(listener),
    openRulesWatch: async (listeners) => await watchTable({ table: NFT_TABLE_NAME, namespace, ...listeners }),
    clock,
    log: log.with({ namespace: namespace.name }),
  });
}
