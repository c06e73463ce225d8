import { MovableSpool } from '../audit/movable-spool.ts';
import { startShipper } from '../audit/shipper.ts';
import { asideFolder } from '../audit/spool-place.ts';
import type { ChosenCapture } from '../capture/open-capture.ts';
import type { HostProxy } from '../proxy/proxy.ts';
import type { Traces } from '../traces/traces.ts';
import type { AgentBase } from './agent-base.ts';
import { CarrierHere } from './carrier-here.ts';
import type { ListenIn } from '../namespaces/namespace-place.ts';
import { listenToAll, startDatagrams } from './start-datagrams.ts';
import { startDataPath, type LeavingSettings } from './data-path.ts';
import { openConfiguredTraces } from './open-configured-traces.ts';
import type { Knowledge } from './open-knowledge.ts';
import type { Traffic } from './traffic.ts';

interface PartsHere extends Knowledge {
  readonly chosen: ChosenCapture;
  readonly leaving: LeavingSettings;
}

/** Prepares the data path in the agent itself. Throws as `MovableSpool`, and where traces cannot be opened. */
export async function prepareHere(base: AgentBase, parts: PartsHere): Promise<Traffic> {
  const { config, metrics, clock, log } = base;
  const { api } = parts.identity;
  const send = api.sendAudit.bind(api);
  const spool = openSpool(base);
  const traces = await openConfiguredTraces(config, { metrics, clock, log });
  if (traces !== undefined) base.add('traces', traces);
  return {
    start: async (captured) => {
      const proxy = startProxyHere(base, { ...parts, spool, traces });
      const datagrams = startDatagrams(base, { ...parts, recorder: spool });
      const listenIn: ListenIn = (namespace) => listenToAll(namespace, [proxy, datagrams]);
      await captured?.listen(listenIn);
      return {
        listenIn,
        ship: () =>
          new CarrierHere({
            carried: datagrams === undefined ? [proxy] : [proxy, datagrams],
            spool,
            ship: (held) => startShipper({ spool: held, send, clock, random: Math.random, log }),
            clock,
          }),
      };
    },
  };
}

function openSpool({ config, parts, shutdown, clock, log }: AgentBase): MovableSpool {
  const { audit } = config;
  const spool = new MovableSpool({ ...audit, asideFolder: asideFolder(audit.directory), clock, log });
  shutdown.add('spool', async () => await spool.close());
  parts.queue = spool;
  return spool;
}

function startProxyHere(
  base: AgentBase,
  {
    spool,
    leaving,
    ...parts
  }: PartsHere & { readonly spool: MovableSpool; readonly traces: Traces | undefined },
): HostProxy {
  const { manager, holder } = parts;
  const { config, sockets, denials, metrics, clock, log } = base;
  const proxy = startDataPath({
    ...parts,
    config: { ...config, leaving },
    inspectionAuthority: base.parts.inspectionAuthority,
    sockets,
    identities: manager,
    enforcement: manager.known.enforcement,
    policy: holder.policy,
    recorder: spool,
    denials,
    observer: metrics,
    clock,
    log,
  });
  base.add('proxy', proxy);
  base.parts.proxy = proxy;
  return proxy;
}
