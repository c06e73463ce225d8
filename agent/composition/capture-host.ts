import type { Running } from '../../shared/runtime/shutdown.ts';
import { NFT_TABLE_NAME } from '../capture/nft-rules.ts';
import { KeptCapture } from '../capture/kept-capture.ts';
import { openEnclosedCapture, type ChosenCapture } from '../capture/open-capture.ts';
import type { RegisteredDirectory } from '../directory/registered-directory.ts';
import { watchAddresses, watchRoutes } from '../native/address-watch.ts';
import { watchTable } from '../native/nftables.ts';
import type { Namespaces } from '../namespaces/namespaces.ts';
import { RouteFollower } from '../namespaces/route-follower.ts';
import type { NamespaceKeeper } from '../namespaces/namespace-keeper.ts';
import type { AgentBase } from './agent-base.ts';
import { followAddresses, followChanges } from './follow-addresses.ts';
import { startCapture } from './start-capture.ts';
import { startNamespaces } from './start-namespaces.ts';

/** Puts the capture rules of the host in force, and keeps them. Rejects as `startCapture`. */
export async function captureHost(
  base: AgentBase,
  { chosen, directory }: { readonly chosen: ChosenCapture; readonly directory: RegisteredDirectory },
): Promise<KeptCapture> {
  const { parts, shutdown, clock, log } = base;
  const start = captureStarter(base, { chosen, directory });
  const capture = new KeptCapture({ start, clock, random: Math.random, log }, await start?.());
  shutdown.add('capture', async () => await parts.keeper?.stop());
  await followOwnAddresses(base, chosen);
  return capture;
}

/** What starts to keep the rules; undefined where nobody is to. */
function captureStarter(
  { config, runtime, uid, parts, clock, log }: AgentBase,
  { chosen, directory }: { readonly chosen: ChosenCapture; readonly directory: RegisteredDirectory },
): (() => Promise<Running>) | undefined {
  const { capture, whyNot } = chosen;
  if (!config.capture.isEnabled) {
    log.warn('capture_disabled');
    return undefined;
  }
  if (whyNot !== undefined) log.info('capture_not_by_ebpf', { error: whyNot });
  return async () => {
    const keeper = await startCapture({
      config,
      sshConnection: runtime.environment['SSH_CONNECTION'],
      agentUid: uid,
      capture,
      openRulesWatch: async (listeners) => await watchTable({ table: NFT_TABLE_NAME, ...listeners }),
      directory,
      clock,
      log,
    });
    parts.keeper = keeper;
    return keeper;
  };
}

async function followOwnAddresses(
  base: AgentBase,
  { capture, followAddresses: onChange }: ChosenCapture,
): Promise<void> {
  const { config, clock, log } = base;
  if (!config.capture.isEnabled || capture.backend !== 'ebpf') return;
  base.addHandedOver('addresses', await followAddresses({ watch: watchAddresses, onChange, clock, log }));
}

/** Captures other namespaces, once the rules of the host stand: what comes from one that is not captured yet is refused there. */
export async function captureNamespaces(
  base: AgentBase,
  directory: RegisteredDirectory,
): Promise<NamespaceKeeper | undefined> {
  const { config, source, namespaces, uid, parts, clock, log } = base;
  if (namespaces === undefined) return undefined;
  await followRoutes(base, namespaces);
  const keeper = await startNamespaces({
    source,
    namespaces,
    config,
    agentUid: uid,
    openCapture: openEnclosedCapture,
    directory,
    clock,
    log,
  });
  base.add('namespaces', keeper);
  parts.namespaces = keeper;
  return keeper;
}

/** Where addresses are told by the host's routes, hears of their changes. */
async function followRoutes(base: AgentBase, namespaces: Namespaces): Promise<void> {
  const { config, clock, log } = base;
  if (config.capture.namespaces.patterns.length === 0) return;
  const follower = new RouteFollower({ namespaces, clock });
  const following = await followChanges({
    watch: watchRoutes,
    onChange: follower.hear,
    failed: 'route_watch_failed',
    clock,
    log,
  });
  base.add('routes', {
    stop: async () => {
      follower.stop();
      await following.stop();
    },
  });
}
