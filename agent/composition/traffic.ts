import type { Carrier } from '../handover/carrier.ts';
import type { NamespaceKeeper } from '../namespaces/namespace-keeper.ts';
import type { ListenIn } from '../namespaces/namespace-place.ts';

/** The data path of a host, prepared: in the agent itself, or in workers. */
export interface Traffic {
  /** Takes connections from now on, those of namespaces that are captured by now as well. Rejects where it cannot listen. */
  start(captured?: Pick<NamespaceKeeper, 'listen'>): Promise<RunningTraffic>;
}

/** The data path of a host that takes connections. */
export interface RunningTraffic {
  /** Takes those of another namespace as well, and decides on its UDP. */
  readonly listenIn: ListenIn;
  /** Ships what it records from now on, and lets another process take over from it. Called once. */
  ship(): Carrier;
}
